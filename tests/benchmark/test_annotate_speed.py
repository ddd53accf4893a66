"""How long an annotated clip takes, against plainly decoding and encoding the clip with PyAV in the same run.

The plain loop decodes and encodes every frame with the same encoder settings, in one process, and draws nothing.
Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_annotate_speed.py
"""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.benchmark.films import FPS, write_film
from tests.scan.annotated import POLICY, result_of, row, track
from torchfakes_cli import annotate_video

pytestmark = pytest.mark.benchmark

SECONDS = 10


def plain(path: Path, out: Path) -> float:
    """Seconds for decoding and encoding every frame."""
    started = time.perf_counter()
    with av.open(str(path)) as container, av.open(str(out), "w", options={"movflags": "+faststart"}) as output:
        source = container.streams.video[0]
        source.thread_type = "AUTO"
        options = {"crf": "20", "preset": "veryfast", "g": str(2 * FPS), "x264-params": "log-level=none"}
        stream = output.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = source.width, source.height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        for frame in container.decode(source):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return time.perf_counter() - started


@pytest.mark.parametrize("size", [(854, 480), (1920, 1080)])
def test_annotating_against_a_plain_loop(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_film(tmp_path / "film.mp4", SECONDS, size, faces=2)
    width, height = size
    side = height / 2
    timeline = [
        row(float(second), (x, 10 * second, x + side, 10 * second + side), track=number)
        for second in range(SECONDS)
        for number, x in ((1, 20 + second), (2, width / 2 + 5 * second))
    ]
    result = result_of(path, timeline, [track(1, 0.9), track(2, 0.1)])
    own_s, plain_s = [], []
    for _ in range(3):
        plain_s.append(plain(path, tmp_path / "plain.mp4"))
        started = time.perf_counter()
        annotate_video(path, result, tmp_path / "out.mp4", policy=POLICY)
        own_s.append(time.perf_counter() - started)
    own, bare = min(own_s), min(plain_s)
    print(
        f"\n{SECONDS} s of {height}p at {FPS} fps with two faces, {os.cpu_count()} cores: {own:.1f} s, "
        f"plain {bare:.1f} s: {own / bare:.2f} times as long"
    )
