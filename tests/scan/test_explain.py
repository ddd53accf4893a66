"""Representative faces, cut out of the video again as the scan saw them, and shares of heat by region."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.clips import write_clip
from tests.people import natural
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.errors import UnreadableFileError, UsageError
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.regions import LANDMARKS, REGIONS
from torchfakes_cli.records import Face, FaceScore, Status, Verdict, VideoResult
from torchfakes_cli.report.heat_maps import RegionShare, TellingFace
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.explain import average_over_tracks, cut_faces, region_shares, representative_rows
from torchfakes_cli.scan.scanner import scan_video
from torchfakes_cli.scan.verdict import Policy, decide
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig

FACE = Face((0.0, 0.0, 80.0, 90.0), 0.99, ((0.0, 0.0),) * 5)
SMALL = Face((0.0, 0.0, 44.0, 50.0), 0.99, ((0.0, 0.0),) * 5)
CONFIG = ScanConfig(sampling=SamplingConfig(frames=12, frames_fixed=True))


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def result_of(people: dict[int, Sequence[float | None]], *, tiny: int = 0) -> VideoResult:
    """Faces one a second (track number → logits, None where there is no score), those of the first tracks tiny."""
    rows = [
        FaceScore(
            float(second),
            second,
            track,
            SMALL if track <= tiny else FACE,
            50.0,
            logit,
            None if logit is None else probability(logit),
        )
        for track, logits in people.items()
        for second, logit in enumerate(logits)
    ]
    timeline = tuple(sorted(rows, key=lambda row: row.time_s))
    decision = decide(timeline, Policy(0.7, 0.3, 3, 0.1), probability)
    return VideoResult(
        "clip.mp4",
        Status.OK,
        timeline=timeline,
        tracks=decision.tracks,
        verdict=decision.verdict,
        reason=decision.reason,
    )


def chosen(people: dict[int, Sequence[float | None]], faces_a_track: int = 3, most_tracks: int = 4) -> list[float]:
    """Logits of the telling rows."""
    rows = representative_rows(result_of(people), faces_a_track=faces_a_track, most_tracks=most_tracks)
    return [row.logit for row in rows if row.logit is not None]


@pytest.mark.parametrize(
    ("faces_a_track", "logits"), [(1, [9.0]), (2, [9.0, 0.05]), (3, [9.0, 0.05, -8.0]), (4, [9.0, 1.0, 0.05, -8.0])]
)
def test_a_person_is_shown_at_the_extremes_and_as_usual(faces_a_track: int, logits: list[float]) -> None:
    seen = [0.0, -0.4, 9.0, 0.2, -0.3, -0.2, 1.0, 0.3, 0.05, None, 0.4, -0.1, -8.0, 0.0]
    assert chosen({1: seen}, faces_a_track) == logits


def test_neighbors_of_a_telling_face_are_passed_over() -> None:
    seen = [0.0] * 30
    seen[10:13] = [7.0, 8.0, 7.0]
    seen[13:15] = [-7.0, -7.0]
    seen[25] = -5.0
    rows = representative_rows(result_of({1: seen}))
    assert [(row.time_s, row.logit) for row in rows] == [(11.0, 8.0), (0.0, 0.0), (25.0, -5.0)]


def test_neighbors_are_better_than_none() -> None:
    assert chosen({1: [1.0, 3.0]}) == [3.0, 1.0]
    assert chosen({1: [2.0]}) == [2.0]


def test_the_person_a_verdict_rests_on_is_shown_before_more_suspicious_ones_who_are_doubted() -> None:
    result = result_of({1: [6.0] * 5, 2: [6.5] * 5, 3: [3.0] * 5}, tiny=2)
    assert result.verdict is Verdict.FAKE
    assert [row.track for row in representative_rows(result, faces_a_track=1, most_tracks=2)] == [3, 2]


def test_people_who_decide_come_first_and_are_limited() -> None:
    people = {1: [0.5] * 5, 2: [9.0, 9.0], 3: [2.0] * 5, 4: [None] * 5, 5: [4.0] * 5}
    assert chosen(people, 1) == [4.0, 2.0, 0.5, 9.0]
    assert chosen(people, 1, most_tracks=2) == [4.0, 2.0]


def test_to_want_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one face"):
        chosen({1: [1.0]}, 0)


def test_without_scores_there_is_nothing_to_show() -> None:
    assert representative_rows(result_of({1: [None, None]})) == ()


@pytest.fixture(scope="module")
def decoder() -> Iterator[IsolatedDecoder]:
    with IsolatedDecoder() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def scanned(clips: Path, detector: Detector) -> VideoResult:
    return scan_video(clips / "both.mp4", CONFIG, detector=detector)


def test_the_pictures_are_what_the_network_scored(
    detector: Detector, scanned: VideoResult, decoder: IsolatedDecoder
) -> None:
    faces = cut_faces(scanned, representative_rows(scanned), decoder, detector)
    assert [face.row for face in faces] == list(representative_rows(scanned))
    assert len({face.row.track for face in faces}) == 2
    assert faces[0].row.time_s == scanned.peak_time_s
    logits = detector.score([face.picture for face in faces])
    assert logits.tolist() == pytest.approx([face.row.logit for face in faces], abs=1e-4)


@pytest.mark.parametrize("side", [512, 100])
def test_landmarks_lie_on_the_picture_whatever_its_size(
    detector: Detector, scanned: VideoResult, decoder: IsolatedDecoder, side: int
) -> None:
    rows = representative_rows(scanned)[-1:]
    (face,) = cut_faces(scanned, rows, decoder, detector, picture_side=side)
    assert max(face.picture.shape) <= side
    ((found,),) = FaceDetector(FaceConfig(), detector.device).detect([face.picture])
    assert np.abs(np.subtract(face.landmarks, found.landmarks)).max() < 0.05 * len(face.picture)


def test_heat_maps_come_from_the_crop_as_the_network_takes_it(
    detector: Detector, scanned: VideoResult, decoder: IsolatedDecoder
) -> None:
    seen: list[float] = []

    def remember(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(float(detector.score([crop])[0]))
        return np.full((2, 2), 0.25, np.float32), np.zeros((2, 2), np.float32)

    rows = representative_rows(scanned)[:2]
    faces = cut_faces(scanned, rows, decoder, detector, heat_maps=remember, picture_side=20)
    assert sorted(seen) == pytest.approx(sorted(row.logit for row in rows), abs=1e-4)
    assert all(face.heat_fake.sum() == 1 and face.heat_real.sum() == 0 for face in faces)


def test_what_does_not_come_again_is_left_out(
    detector: Detector, scanned: VideoResult, decoder: IsolatedDecoder, tmp_path: Path
) -> None:
    other = write_clip(tmp_path / "both.mp4", [natural()] * 4, fps=10)
    result = replace(scanned, path=str(other))
    faces = cut_faces(result, representative_rows(result), decoder, detector)
    assert all(face.row.time_s == 0.0 for face in faces)
    other.unlink()
    with pytest.raises(UnreadableFileError, match="no such file"):
        cut_faces(result, representative_rows(result), decoder, detector)


SIDE = 100
#: On a picture of twice the maps' size.
ON_PICTURE = tuple((float(x), float(y)) for x, y in LANDMARKS * 50 + (100, 75))
EVEN = np.full((SIDE, SIDE), SIDE**-2, np.float32)


def face(heat_fake: np.ndarray, track: int = 1) -> TellingFace:
    picture = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    row = FaceScore(0.0, 0, track, logit=1.0, p_fake=0.7)
    return TellingFace(row, picture, ON_PICTURE, heat_fake, np.zeros_like(heat_fake))


def test_heat_on_the_mouth_is_the_mouths() -> None:
    x, y = ((np.array(ON_PICTURE[3]) + ON_PICTURE[4]) / 4).round().astype(int)
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[y - 1 : y + 2, x - 1 : x + 2] = 1 / 9
    shares = {share.region: share for share in region_shares(face(heat))}
    assert shares["mouth"].fake == pytest.approx(1)
    assert all(share.real is None for share in shares.values())
    assert sum(share.area for share in shares.values()) == pytest.approx(1, abs=1e-4)


def test_an_even_map_falls_on_each_region_by_its_area() -> None:
    for share in region_shares(face(EVEN)):
        assert share.fake == pytest.approx(share.area)
    assert [share.region for share in region_shares(face(EVEN))] == list(REGIONS)


def test_people_count_the_same_however_many_faces_they_have() -> None:
    shares = [(RegionShare("eyes", 0.1, fake, None),) for fake in (0.2, 0.4, None, 0.9)]
    faces = [face(EVEN, track) for track in (1, 1, 1, 2)]
    (eyes,) = average_over_tracks(faces, shares)
    assert (eyes.fake, eyes.real) == (pytest.approx(0.6), None)
    assert average_over_tracks([], []) == ()
