"""How fast the samples of a clip are decoded, against a plain PyAV loop to the same samples in the same run.

The plain loop decodes every frame with PyAV's automatic threads and converts those that are wanted, in this process;
the reader works in a process of its own, as scans use it, which is started before. Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_decode_speed.py
"""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.benchmark.films import FPS, write_film
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig

pytestmark = pytest.mark.benchmark
Pixels = np.ndarray

CORES = f"{os.cpu_count()} cores"


def plain(path: Path, wanted: list[int]) -> tuple[float, list[Pixels]]:
    """Seconds, and a reduced copy of each wanted frame, by its place."""
    started = time.perf_counter()
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        places = set(wanted)
        for place, frame in enumerate(container.decode(stream)):
            if place in places:
                pictures.append(frame.to_ndarray(format="rgb24")[::8, ::8])
    return time.perf_counter() - started, pictures


def ours(decoder: IsolatedDecoder, path: Path, sampling: SamplingConfig) -> tuple[float, list[int], list[Pixels]]:
    """Seconds, places and a reduced copy of each sample."""
    started = time.perf_counter()
    places, pictures = [], []
    with decoder.open(path) as video:
        for frame in video.frames(sampling):
            assert frame.index is not None
            places.append(frame.index)
            pictures.append(frame.pixels[::8, ::8].copy())
    return time.perf_counter() - started, places, pictures


@pytest.mark.parametrize(
    ("size", "key_each", "seconds"),
    [
        ((1920, 1080), 30, 60),
        ((1920, 1080), 60, 60),
        ((1920, 1080), 250, 60),
        ((854, 480), 60, 180),
        ((854, 480), 250, 180),
    ],
)
def test_decoding_to_the_samples_against_a_plain_loop(
    tmp_path: Path, size: tuple[int, int], key_each: int, seconds: int
) -> None:
    path = write_film(tmp_path / "film.mp4", seconds, size, key_each=key_each)
    with IsolatedDecoder() as decoder:
        decoder.enforced()
        print(f"\n{seconds} s of {size[1]}p at {FPS} fps, a key frame each {key_each}, one sample a second, {CORES}:")
        for key_frames in (True, False):
            sampling = SamplingConfig(fps=Fraction(1), key_frames=key_frames)
            own_s, places, pictures = ours(decoder, path, sampling)
            plain_s, expected = plain(path, places)
            note = "near key frames" if key_frames else "exact times"
            print(f"  {note:15}  {own_s:6.2f} s, plain {plain_s:6.2f} s: {plain_s / own_s:5.1f} times as fast")
            assert len(pictures) == len(expected) == seconds
            for picture, other in zip(pictures, expected, strict=True):
                np.testing.assert_array_equal(picture, other)
