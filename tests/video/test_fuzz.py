"""Randomly damaged files of every container: frames or an error in time, and the next file is read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.clips import barcode_frames, write_clip
from torchfakes_cli.errors import MediaError
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig

KINDS = {
    "clip.mp4": "libx264",
    "clip.mkv": "libx264",
    "clip.ts": "libx264",
    "clip.flv": "libx264",
    "clip.avi": "mpeg4",
    "clip.mpg": "mpeg2video",
    "clip.webm": "libvpx",
    "clip.mov": "mjpeg",
    "clip.wmv": "wmv2",
    "clip.mxf": "mpeg2video",
}
QUICK, THOROUGH = 4, 220
TIMEOUT_S = 20.0


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Applies one to three random kinds of damage."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(max(1, len(changed))))
        # Headers decide how the rest is read: half of the damage goes there.
        if rng.random() < 0.5:
            place %= 1024
        length = int(rng.integers(1, 64))
        kind = rng.integers(6)
        if kind == 0:
            for spot in rng.integers(0, len(changed), 16):
                changed[spot] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[place : place + length] = rng.bytes(length)
        elif kind == 2:
            changed[place : place + length] = bytes([int(rng.choice([0, 0x7F, 0xFF]))]) * length
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length]
        else:
            del changed[max(64, place) :]
    return bytes(changed)


@pytest.mark.parametrize(
    "mutations", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)], ids=["quick", "thorough"]
)
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_gives_frames_or_a_refusal(tmp_path: Path, name: str, mutations: int) -> None:
    options = {"g": "6", "bf": "2"} if KINDS[name] == "libx264" else {"g": "6"}
    pixel_format = {"mjpeg": "yuvj420p", "mpeg2video": "yuv422p"}.get(KINDS[name], "yuv420p")
    clip = write_clip(
        tmp_path / name,
        barcode_frames(12, (96, 64)),
        fps=25,
        codec=KINDS[name],
        options=options,
        pixel_format=pixel_format,
    )
    data, rng = clip.read_bytes(), np.random.default_rng(len(name))
    given, refusals = 0, list[str]()
    odd = tmp_path / f"odd{clip.suffix}"
    with IsolatedDecoder(timeout_s=TIMEOUT_S, memory_mb=1024) as decoder:
        for _ in range(mutations):
            odd.write_bytes(mutated(data, rng))
            started = time.monotonic()
            try:
                with decoder.open(odd) as video:
                    given += bool(list(video.frames(SamplingConfig(frames=4, frames_fixed=True))))
            except MediaError as error:  # a decoder that crashes or hangs ends in one, too
                refusals.append(str(error))
            # A guard against a hang that the limits above don't end, not a measure of speed.
            assert time.monotonic() - started < 3 * TIMEOUT_S
        with decoder.open(clip) as video:
            assert len(list(video.frames(SamplingConfig(frames=4, frames_fixed=True)))) == 4
    assert given
    assert given + len(refusals) == mutations
    assert not any("\n" in refusal for refusal in refusals)
