"""How fast a scan is, against the straightforward pipeline and against decoding alone in the same run.

Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_scan_speed.py
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.benchmark.films import write_film
from tests.benchmark.processes import fastest, run
from tests.usage import Usage

pytestmark = pytest.mark.benchmark

CORES = f"{os.cpu_count()} cores, whole processes"


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("minute") / "minute.mp4", 60)


def scan(*arguments: str | Path) -> Usage:
    return run("torchfakes_cli", "scan", *map(str, arguments), "--json")


def test_a_minute_against_the_straightforward_pipeline_and_decoding_alone(minute: Path) -> None:
    own = fastest(2, "torchfakes_cli", "scan", str(minute), "--fps", "1", "--json")
    bare = fastest(2, "tests.benchmark.bare_decoding", "1", str(minute))
    reference = run("tests.benchmark.reference", str(minute), "1", "20")
    equal = run("tests.benchmark.reference", str(minute), "1", "40")
    rows = json.loads(own.output)["timeline"]
    print(
        f"\n60 s of 1080p at 30 fps, one frame a second, {CORES}:"
        f"\n  torchfakes scan                        {own}  {len(rows)} rows"
        f"\n  reference, MTCNN's own smallest face   {reference}  {reference.output.strip()}"
        f"\n  reference, the same smallest face      {equal}  {equal.output.strip()}"
        f"\n  decoding alone                         {bare}  {bare.output.strip()}"
        f"\n  {reference.wall_s / own.wall_s:.1f} times as fast as the reference, {equal.wall_s / own.wall_s:.1f} times"
        f" with the same smallest face; {own.wall_s / bare.wall_s:.2f} times as long as decoding alone"
    )
    assert sum(row["track"] is not None for row in rows) >= 55


def test_a_folder_against_single_runs_and_decoding_alone(tmp_path: Path) -> None:
    first = write_film(tmp_path / "00.mp4", 10)
    clips = [first, *(Path(shutil.copy(first, tmp_path / f"{number:02}.mp4")) for number in range(1, 20))]
    folder = scan(tmp_path)
    bare = run("tests.benchmark.bare_decoding", "0", *map(str, clips))
    singles = [scan(clip) for clip in clips]
    singles_s = sum(each.wall_s for each in singles)
    print(
        f"\n20 clips of 10 s, 1080p, 32 frames each, {CORES}:"
        f"\n  as a folder     {folder}"
        f"\n  one by one      {singles_s:7.1f} s"
        f"\n  decoding alone  {bare}"
        f"\n  {singles_s / folder.wall_s:.2f} times as fast as one by one; {folder.wall_s / bare.wall_s:.2f} times as"
        f" long as decoding alone"
    )
    found = [json.loads(line) for line in folder.output.splitlines()]
    assert [each["frames_sampled"] for each in found] == [32] * 20
    alone = json.loads(singles[0].output)
    assert all(each["p_fake"] == pytest.approx(alone["p_fake"], abs=0.01) for each in found)


@pytest.mark.parametrize("seconds", [10, 60, 600, 7200])
def test_cost_by_length(seconds: int, tmp_path: Path) -> None:
    clip = write_film(tmp_path / "film.mp4", seconds, (854, 480))
    print(f"\n480p, one face, {seconds:5} s, one frame a second: {scan(clip, '--fps', '1')}")


@pytest.mark.parametrize("faces", [1, 5, 20])
def test_cost_by_faces(faces: int, tmp_path: Path) -> None:
    clip = write_film(tmp_path / "film.mp4", 10, faces=faces)
    found = scan(clip)
    print(f"\n1080p, {faces:2} faces a frame, 32 frames: {found}")
    assert json.loads(found.output)["frames_sampled"] == 32


@pytest.mark.parametrize("size", [(640, 360), (1280, 720), (1920, 1080), (3840, 2160)])
def test_cost_by_size(size: tuple[int, int], tmp_path: Path) -> None:
    clip = write_film(tmp_path / "film.mp4", 10, size)
    print(f"\n{size[0]:4}×{size[1]:4}, one face, 32 frames: {scan(clip)}")
