"""How many videos a minute are scanned, against the number of workers, and what one video takes of a core.

Prints; asserts no time, but that every video has its result.

pytest -m benchmark -s tests/benchmark/test_spread_speed.py
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmark.films import write_film
from torchfakes_cli.config import ScanConfig
from torchfakes_cli.records import Status
from torchfakes_cli.scan import Scanner, scan_files

pytestmark = pytest.mark.benchmark

CLIPS = 24

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    first = write_film(folder / "00.mp4", 10, (1280, 720))
    for number in range(1, CLIPS):
        shutil.copy(first, folder / f"{number:02}.mp4")
    return folder


def a_minute(clips: Path, *options: str, cores: set[int] | None = None) -> tuple[float, float]:
    """Videos a minute from the first result to the last, and the seconds until the first."""
    command = [sys.executable, "-m", "torchfakes_cli", "scan", str(clips), "--json", *options]

    def bind() -> None:
        if cores:
            os.sched_setaffinity(0, cores)

    started = time.monotonic()
    times = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=bind) as process:
        assert process.stdout is not None
        for line in process.stdout:
            assert json.loads(line)["status"] == "ok"
            times.append(time.monotonic())
    assert len(times) == CLIPS
    return 60 * (CLIPS - 1) / (times[-1] - times[0]), times[0] - started


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processes that are bound to a core")
def test_processes_of_one_core_each(clips: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    one, first = a_minute(clips, "--device", "cpu", cores={cores[0]})
    print(
        f"\n{CLIPS} clips of 10 s, 720p: 1 process bound to a core {one:5.1f} a minute (the first after {first:.0f} s)"
    )
    count = 2
    while count <= len(cores):
        rate, first = a_minute(clips, "--device", ",".join(["cpu"] * count), cores=set(cores[:count]))
        print(
            f"  {count} processes on {count} cores {rate:5.1f} a minute, {rate / one:.2f} times (first {first:.0f} s)"
        )
        count *= 2


def test_all_cores_as_one_worker_or_several(clips: Path) -> None:
    here, first = a_minute(clips, "--device", "cpu")
    print(
        f"\n{CLIPS} clips of 10 s, 720p: in one process, all cores {here:5.1f} a minute (the first after {first:.0f} s)"
    )
    rate, first = a_minute(clips, "--device", "cpu,cpu")
    print(f"  2 processes {rate:5.1f} a minute, {rate / here:.2f} times (first {first:.0f} s)")


@with_ray
def test_ray_workers(clips: Path) -> None:
    print(f"\n{CLIPS} clips of 10 s, 720p, Ray:")
    for workers in (1, 2):
        rate, first = a_minute(clips, "--ray", "local", "--workers", str(workers))
        print(f"  {workers} workers on all cores {rate:5.1f} a minute (the first after {first:.0f} s)")


@pytest.mark.skipif(sys.platform == "win32", reason="needs the processor time of other processes")
@pytest.mark.parametrize(("seconds", "size"), [(10, (1280, 720)), (60, (1920, 1080))])
def test_what_a_video_takes(seconds: int, size: tuple[int, int], tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", seconds, size)
    few, many = (processor_times([str(film)] * count) for count in (2, 8))
    decoding, rest = ((after - before) / 6 for before, after in zip(few, many, strict=True))
    print(
        f"\none video of {seconds} s, {size[0]}×{size[1]}, {film.stat().st_size / 1e6:.1f} MB: {decoding:.2f} core"
        f" seconds of decoding, {rest:.2f} of all else, on processors alone"
    )
    assert decoding > 0


def processor_times(clips: list[str]) -> tuple[float, float]:
    """Seconds of decoding processes, and of this one, for a scan of these clips with networks that are loaded."""
    import resource

    def used(whose: int) -> float:
        usage = resource.getrusage(whose)
        return usage.ru_utime + usage.ru_stime

    with Scanner(ScanConfig(device="cpu")) as scanner:
        scanner.load()
        here = used(resource.RUSAGE_SELF)
        results = list(scan_files(scanner, clips))
        here = used(resource.RUSAGE_SELF) - here
        children = used(resource.RUSAGE_CHILDREN)
    assert all(result.status is Status.OK for result in results)
    return used(resource.RUSAGE_CHILDREN) - children, here
