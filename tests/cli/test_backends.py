"""A batch on several processes and on a Ray cluster: the same rows, files and codes, also where workers are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.report.tables import rows
from tests.workers import PROCESS_WORKER, RAY_WORKER, below, gone, wait_until
from torchfakes_cli.cli import app
from torchfakes_cli.report import BatchRow

HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", HEED + "from torchfakes_cli.cli import main; main()", "scan"]
CLIPS = 30

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find the workers")
with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
everywhere = pytest.mark.parametrize(
    ("place", "mark"),
    [
        pytest.param(["--device", "cpu,cpu"], PROCESS_WORKER, id="processes"),
        pytest.param(["--ray", "local", "--workers", "2"], RAY_WORKER, marks=with_ray, id="ray"),
    ],
)


def scan(*arguments: str | Path | float) -> Result:
    return CliRunner().invoke(app, ["scan", *map(str, arguments)])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--workers", "2"], "Ray cluster"),
        (["--device", "cpu,cpu", "--profile"], "--profile tells of one process"),
        (["--device", "cpu,toast"], "no device called 'toast'"),
        (["--device", "cpu,"], "no device called ''"),
        (["--ray", "auto", "--report", "pages"], "--report is not written on a Ray cluster"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_line(tmp_path: Path, options: list[str], reason: str) -> None:
    ended = scan(tmp_path, *options)
    assert ended.exit_code == 2
    (line,) = ended.stderr.splitlines()
    assert reason in line


@pytest.mark.parametrize("options", [["--device", "cpu,cpu"], ["--ray", "auto"]])
def test_one_video_has_one_device(tmp_path: Path, options: list[str]) -> None:
    ended = scan(tmp_path / "clip.mp4", *options)
    assert ended.exit_code == 2
    assert "would scan one video" in ended.stderr


def test_a_missing_ray_is_said_with_what_brings_it(clips: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = scan(clips, "--ray", "auto", "--model", model, "--json")
    assert ended.exit_code == 2
    assert "pip install 'torchfakes[ray]'" in ended.stderr
    assert not ended.stdout


@pytest.mark.parametrize("option", ["--timelines", "--report"])
def test_files_for_several_urls_are_refused(option: str) -> None:
    ended = scan("memory://bucket/a.mp4", "memory://bucket/b.mp4", option, "out")
    assert ended.exit_code == 2
    assert f"{option} is for files of this machine" in ended.stderr


@pytest.mark.parametrize("url", ["ftp://example.org/clip.mp4", "rtsp://camera/1", "zip://a.mp4::file://b.zip"])
def test_other_urls_are_refused(url: str) -> None:
    ended = scan(url)
    assert ended.exit_code == 2
    assert "URLs are not opened" in ended.stderr


@pytest.fixture
def bucket(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The clips in a store in memory."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.put(f"{clips}/", "/bucket/", recursive=True)
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


@pytest.mark.slow
def test_a_bucket_is_scanned_and_gone_on_with(bucket: str, clips: Path, model: Path, tmp_path: Path) -> None:
    import fsspec

    results, here = tmp_path / "results.csv", tmp_path / "here.csv"
    assert scan(bucket, "-o", results, "--model", model, "--frames", 3).exit_code == 3
    assert scan(clips, "-o", here, "--model", model, "--frames", 3).exit_code == 3
    names = ["broken.mp4", "empty.mp4", "face.mp4"]
    assert [row.path for row in rows(results)] == [f"{bucket}/{name}" for name in names]
    same(results, here)
    with fsspec.open(f"{bucket}/empty.mp4", "wb") as file:
        file.write((clips / "face.mp4").read_bytes())
    ended = scan(bucket, "-o", results, "--model", model, "--frames", 3)
    assert "1 row of an earlier run kept" in ended.stderr
    assert [row.verdict for row in rows(results)] == [None, "fake", "fake"]
    single = scan(f"{bucket}/face.mp4", "--model", model, "--frames", 3, "--json")
    assert json.loads(single.stdout)["path"] == f"{bucket}/face.mp4"
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


def same(one: Path, other: Path) -> None:
    """The tables agree on all but times and the folders of the files; scores as far as another batch moves them."""

    def plain(row: BatchRow) -> BatchRow:
        return row._replace(path=row.path.rpartition("/")[2], elapsed_s=None, p_fake=None, scanned_at=None)

    assert list(map(plain, rows(one))) == list(map(plain, rows(other)))
    for ours, theirs in zip(rows(one), rows(other), strict=True):
        assert ours.p_fake == pytest.approx(theirs.p_fake, abs=0.01)


@pytest.fixture
def many(clips: Path) -> Path:
    for number in range(CLIPS):
        shutil.copy(clips / "face.mp4", clips / f"z{number:02}.mp4")
    return clips


@contextmanager
def running(arguments: list[str | Path]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finished(results: Path) -> int:
    """Rows in the table."""
    return results.read_bytes().count(b"\n") - 1 if results.exists() else 0


@pytest.mark.slow
@on_linux
@everywhere
def test_a_killed_worker_costs_no_row(many: Path, model: Path, tmp_path: Path, place: list[str], mark: bytes) -> None:
    settings: list[str | Path] = [many, "--model", model, "--frames", "4"]
    results, alone = tmp_path / "results.csv", tmp_path / "alone.csv"
    with running([*settings, "-o", results, *place, "--json"]) as process:
        wait_until(lambda: finished(results) >= 3, process)
        workers = below(process.pid, mark)
        assert len(workers) == 2
        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(below(process.pid, mark) - {victim}) == 2, process)
        everyone = below(process.pid)
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 3, errors  # one clip is broken
    assert "Traceback" not in errors
    assert subprocess.run([*COMMAND, *map(str, settings), "-o", str(alone)], capture_output=True).returncode == 3
    same(results, alone)
    assert len(rows(results)) == CLIPS + 3
    told = [json.loads(line)["path"] for line in output.splitlines()]
    assert sorted(told) == [row.path for row in rows(results)]
    assert gone(everyone)


@pytest.mark.slow
@on_linux
@everywhere
def test_a_hung_worker_costs_no_row(many: Path, model: Path, tmp_path: Path, place: list[str], mark: bytes) -> None:
    results = tmp_path / "results.csv"
    with running([many, "--model", model, "--frames", "4", "--timeout", "1", "-o", results, *place]) as process:
        wait_until(lambda: finished(results) >= 3, process)
        victim = min(below(process.pid, mark))
        os.kill(victim, signal.SIGSTOP)
        everyone = below(process.pid)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 3, errors
    assert len({row.path for row in rows(results)}) == CLIPS + 3
    assert [row.path.rpartition("/")[2] for row in rows(results) if row.status == "error"] == ["broken.mp4"]
    assert gone(everyone)


@pytest.mark.slow
@on_linux
def test_workers_end_with_a_killed_command(many: Path, model: Path) -> None:
    with running([many, "--model", model, "--device", "cpu,cpu", "--json"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        everyone = below(process.pid)
        assert below(process.pid, PROCESS_WORKER)
        process.kill()
    assert gone(everyone)


@pytest.mark.slow
@on_linux
@everywhere
def test_an_interrupted_batch_goes_on_anywhere(
    many: Path, model: Path, tmp_path: Path, place: list[str], mark: bytes
) -> None:
    results = tmp_path / "results.csv"
    settings: list[str | Path] = [many, "--model", model, "--frames", "4", "-o", results]
    with running([*settings, *place]) as process:
        wait_until(lambda: finished(results) >= 3, process)
        everyone = below(process.pid)
        assert below(process.pid, mark)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in errors
    assert gone(everyone)
    before = rows(results)
    assert 3 <= len(before) < CLIPS + 3
    ended = subprocess.run([*COMMAND, *map(str, settings)], capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "of an earlier run kept" in ended.stderr
    assert len(rows(results)) == len({row.path for row in rows(results)}) == CLIPS + 3
    assert {row for row in before if row.status == "ok"} <= set(rows(results))


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [["--device", "cpu,cpu"], pytest.param(["--ray", "local", "--workers", "2"], marks=with_ray)],
    ids=["processes", "ray"],
)
def test_a_model_that_cannot_be_used_is_said_before_the_first_file(
    clips: Path, tmp_path: Path, place: list[str]
) -> None:
    damaged, results = tmp_path / "damaged.safetensors", tmp_path / "results.csv"
    damaged.write_bytes(b"no model")
    arguments = [*COMMAND, str(clips), "--model", str(damaged), "-o", str(results), *place]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert not results.exists()


@pytest.mark.slow
def test_timelines_and_pages_come_from_processes_as_well(clips: Path, model: Path, tmp_path: Path) -> None:
    command = (clips, "--model", model, "--frames", 3, "--device", "cpu,cpu")
    ended = scan(*command, "--timelines", tmp_path / "t", "--report", tmp_path / "r", "-o", tmp_path / "results.csv")
    assert ended.exit_code == 3
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["empty.timeline.csv", "face.timeline.csv"]
    assert (tmp_path / "r" / "face.report.html").exists()
    assert "face.mp4" in (tmp_path / "r" / "index.html").read_text()
