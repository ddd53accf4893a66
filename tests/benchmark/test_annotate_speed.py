"""How long an annotated clip takes, against plainly decoding and encoding the clip with PyAV in the same run.

The plain loop decodes and encodes every frame with the same encoder settings, in one process, and draws nothing.
Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_annotate_speed.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.benchmark.films import FPS, write_film
from tests.scan.annotated import POLICY, result_of, row, track
from torchfakes_cli import annotate_video

pytestmark = pytest.mark.benchmark

SECONDS = 10


def plain(path: Path, out: Path) -> None:
    """Decodes and encodes every frame."""
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


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that something takes, and seconds of processor time, its processes included."""
    before, started = os.times(), time.perf_counter()
    work()
    wall_s, after = time.perf_counter() - started, os.times()
    return wall_s, sum(after[:4]) - sum(before[:4])


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
    own, bare = [], []
    for _ in range(3):
        bare.append(measured(lambda: plain(path, tmp_path / "plain.mp4")))
        own.append(measured(lambda: annotate_video(path, result, tmp_path / "out.mp4", policy=POLICY)))
    print(f"\n{SECONDS} s of {height}p at {FPS} fps with two faces, {os.cpu_count()} cores:")
    for what, which in (("seconds", 0), ("seconds of processor time", 1)):
        mine, other = min(run[which] for run in own), min(run[which] for run in bare)
        print(f"  {mine:.1f} {what}, plain {other:.1f}: {mine / other:.2f} times as many")
