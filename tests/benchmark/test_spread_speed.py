"""How many videos a minute are scanned, against the number of workers, and what one video takes of a core.

Prints; asserts no time, but that every video has its result.

pytest -m benchmark -s tests/benchmark/test_spread_speed.py
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from tests.benchmark.films import write_film
from tests.workers import below, processor_s
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.report import BatchTable, Stamp
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.ray_backend import on_ray
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.scan.worker_pool import WorkerPool, on_devices

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc for the time of other processes"),
]

CLIPS = 6
#: Gives 1080p about 5 Mbit/s, as cameras and sites do.
CRF = 19

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("clips")
    first = write_film(folder / "00.mp4", 10, (1280, 720), crf=CRF)
    return [str(first), *(str(shutil.copy(first, folder / f"{number:02}.mp4")) for number in range(1, CLIPS))]


def rates(clips: list[str], executor: WorkerPool, workers: int) -> str:
    """What workers that are all at work get done; core seconds hold on a busy machine, too."""
    with closing(executor):
        while len(list(executor.scan(clips[: 2 * workers]))) and executor.ready < workers:
            pass
        started, used = time.monotonic(), processor_s(below(os.getpid()))
        results = list(executor.scan(clips))
        taken, used = time.monotonic() - started, processor_s(below(os.getpid())) - used
    assert [result.status for result in results] == [Status.OK] * CLIPS
    return f"{60 * CLIPS / taken:.1f} videos a minute, {used / CLIPS:.2f} core seconds each"


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_processes_of_one_core_each(clips: list[str], count: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        pytest.skip(f"{len(cores)} cores")
    os.sched_setaffinity(0, cores[:count])
    try:
        told = rates(clips, on_devices(devices=",".join(["cpu"] * count)), count)
    finally:
        os.sched_setaffinity(0, cores)
    print(f"\n10 s, 720p: {count} processes on {count} cores {told}")


@pytest.mark.parametrize("count", [1, 2])
def test_all_cores_among_processes(clips: list[str], count: int) -> None:
    told = rates(clips, on_devices(devices=",".join(["cpu"] * count)), count)
    print(f"\n10 s, 720p, all cores: {count} processes {told}")


@with_ray
@pytest.mark.parametrize("count", [1, 2])
def test_all_cores_among_ray_workers(clips: list[str], count: int) -> None:
    told = rates(clips, on_ray("local", workers=count), count)
    print(f"\n10 s, 720p, all cores: {count} Ray workers {told}")


@pytest.mark.parametrize(("seconds", "size"), [(10, (1280, 720)), (60, (1920, 1080))])
def test_what_a_video_takes(seconds: int, size: tuple[int, int], tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", seconds, size, crf=CRF)
    few, many = (processor_times([str(film)] * count) for count in (1, 4))
    decoding, rest = ((after - before) / 3 for before, after in zip(few, many, strict=True))
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
        results = list(scanner.scan_each(clips))
        here = used(resource.RUSAGE_SELF) - here
        children = used(resource.RUSAGE_CHILDREN)
    assert all(result.status is Status.OK for result in results)
    return used(resource.RUSAGE_CHILDREN) - children, here


def test_what_a_million_rows_would_take_of_the_one_who_writes(tmp_path: Path) -> None:
    count = 5_000
    stamps = {f"s3://bucket/day{each // 1000:03}/{each:08}.mp4": Stamp(each, each, "0" * 64) for each in range(count)}
    started = time.monotonic()
    with BatchTable(tmp_path / "results.csv", stamps) as table:
        for path in stamps:
            table.write(VideoResult(path, Status.OK, Verdict.REAL, 0.25, frames_sampled=60, model="torchfakes-1"))
    written = time.monotonic()
    with BatchTable(tmp_path / "results.csv", stamps) as table:
        assert len(table.kept) == count
    again = time.monotonic()
    tracemalloc.start()
    with BatchTable(tmp_path / "results.csv", stamps):
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"\n{count} rows: {count / (written - started):.0f} a second; going on takes"
        f" {(again - written) / count * 1e6:.0f} s and {peak / count / 1e3:.1f} GB for a million"
    )
