"""How fast a scan is, against the straightforward pipeline in the same run. Prints; asserts no time.

pytest -m benchmark -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import write_clip
from tests.portraits import scene

pytestmark = pytest.mark.benchmark
SECONDS = 60


def walking_face() -> Iterator[np.ndarray]:
    """A 1080p scene with a face that walks about and a camera's noise, at 30 frames a second."""
    rng = np.random.default_rng(0)
    grain = rng.integers(-6, 7, (1080 + 64, 1920 + 64, 1))
    texture = np.clip(rng.normal(0, 25, (34, 60, 3)).repeat(32, 0).repeat(32, 1)[:1080, :1920], -60, 60)
    heads = [scene((640, 640), (320.0, 320.0), 220.0 + 4 * step) for step in range(10)]
    for frame in range(SECONDS * 30):
        pixels = texture + 110
        x = int(640 + 600 * np.sin(frame / 90))
        y = int(220 + 100 * np.cos(frame / 70))
        pixels[y : y + 640, x : x + 640] = heads[frame // 15 % 10]
        dy, dx = rng.integers(0, 64, 2)
        yield np.clip(pixels + grain[dy : dy + 1080, dx : dx + 1920], 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "minute.mp4"
    options = {"preset": "veryfast", "crf": "26", "bf": "3", "g": "250"}
    return write_clip(path, walking_face(), fps=Fraction(30), options=options)


def measured(command: Sequence[str]) -> tuple[float, float, str]:
    """Seconds, peak memory in MiB (0 where the system doesn't tell) and output of a whole process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    output = process.stdout.read()
    peak = 0.0
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)
    process.stdout.close()
    assert process.wait() == 0
    return time.perf_counter() - started, peak, output


def test_scan_of_a_minute_against_the_straightforward_pipeline(clip: Path) -> None:
    scan = [sys.executable, "-m", "torchfakes_cli", "scan", str(clip), "--fps", "1", "--json"]
    reference = [sys.executable, "-m", "tests.benchmark.reference", str(clip), "1", "40"]
    own_s, own_mib, output = measured(scan)
    reference_s, reference_mib, found = measured(reference)
    result = json.loads(output)
    print(
        f"\n60 s of 1080p at 30 fps, --fps 1, {os.cpu_count()} cores, whole processes:"
        f"\n  torchfakes scan  {own_s:6.1f} s  {own_mib:6.0f} MiB  {len(result['timeline'])} rows"
        f"\n  reference        {reference_s:6.1f} s  {reference_mib:6.0f} MiB  {found.strip()}"
        f"\n  {reference_s / own_s:.2f} times as fast"
    )
    assert len(result["timeline"]) >= SECONDS
