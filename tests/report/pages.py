"""Made-up results with faces, as pages show them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.report.results import FACE, INFO, result
from torchfakes_cli.facts import Credentials, CredentialsState, Fact, FileFacts
from torchfakes_cli.records import FaceScore, Track, Verdict, VideoResult
from torchfakes_cli.report.heat_maps import TellingFace
from torchfakes_cli.report.summary import Provenance

PROVENANCE = Provenance(
    version="0.1.0",
    command="torchfakes scan clip.mp4 --report report.html",
    model_sha256="ab" * 32,
    calibrated_on="32 validation videos of 19 groups",
    fake_above=0.69,
    real_below=0.45,
    settings=(("blur_threshold", "30"),),
)
FILE = FileFacts(123_456, "cd" * 32, (Fact("container", "QuickTime / MOV"),), Credentials(CredentialsState.NONE))


def crowd(seconds: int, people: int, *, faces_each: int = 4) -> tuple[VideoResult, list[TellingFace]]:
    """A film with a row a second, in which people take turns, and telling faces of each, both heat maps included.

    The pictures are noise, which compresses worse than any face.
    """
    draws = np.random.default_rng(0)
    rows, tracks, faces = [], [], []
    turn = seconds // people
    for second in range(seconds):
        number = min(second // turn, people - 1) + 1
        logit = float(draws.normal(3.0 - number / 10, 1.0))
        score = 1 / (1 + float(np.exp(-logit)))
        rows.append(FaceScore(float(second), 30 * second, number, FACE, 90.0, logit, score))
    for number in range(1, people + 1):
        own = [row for row in rows if row.track == number]
        logit = sum(row.logit or 0.0 for row in own) / len(own)
        score = 1 / (1 + float(np.exp(-logit)))
        tracks.append(
            Track(number, own[0].time_s, own[-1].time_s, len(own), len(own), logit, score, own[0].time_s, True)
        )
        for row in own[:faces_each]:
            picture = draws.integers(0, 256, (300, 300, 3), np.uint8)
            heat = draws.random((5, 5), np.float32)
            faces.append(TellingFace(row, picture, FACE.landmarks, heat, heat))
    info = replace(INFO, duration_s=float(seconds), frame_count=30 * seconds)
    film = replace(
        result(),
        verdict=Verdict.FAKE,
        reason=None,
        p_fake=max(track.p_fake or 0 for track in tracks),
        info=info,
        frames_sampled=seconds,
        timeline=tuple(rows),
        tracks=tuple(tracks),
        peak_time_s=0.0,
        warnings=(),
    )
    return film, faces
