from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tests.report.results import failure, result
from torchfakes_cli.errors import OutputError
from torchfakes_cli.report import BatchCsv


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_a_file_with_the_columns_in_order(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with BatchCsv(path) as table:
        table.write(result())
        table.write(failure())
    header = path.read_text().splitlines()[0]
    assert header == (
        "path,status,verdict,p_fake,reason,duration_s,width,height,fps,frames_sampled,faces_scored,faces_blurry,tracks,"
        "peak_time_s,elapsed_s,model,error"
    )
    scanned, failed = rows(path)
    assert scanned["verdict"] == "inconclusive"
    assert scanned["reason"] == "too_few_faces"
    assert scanned["fps"] == "29.970"
    assert (scanned["faces_scored"], scanned["faces_blurry"], scanned["tracks"]) == ("1", "1", "1")
    assert failed["status"] == "error"
    assert failed["error"] == "empty file. Copy it again."
    assert not any(failed[name] for name in ("verdict", "p_fake", "frames_sampled", "faces_scored", "width"))


def test_a_row_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with BatchCsv(path) as table:
        assert rows(path) == []
        table.write(result("first.mp4"))
        assert [row["path"] for row in rows(path)] == ["first.mp4"]


def test_odd_names_survive(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    names = ["two\nlines.mp4", 'quo"ted, twice.mp4', b"\xff.mp4".decode("utf-8", "surrogateescape"), "=1+1.mp4"]
    with BatchCsv(path) as table:
        for name in names:
            table.write(result(name))
    assert [row["path"] for row in rows(path)] == [names[0], names[1], "\\xff.mp4", "'=1+1.mp4"]


@pytest.mark.parametrize("ours", [True, False])
def test_results_in_the_way_are_replaced_only_by_force(tmp_path: Path, ours: bool) -> None:
    path = tmp_path / "results.csv"
    if ours:
        with BatchCsv(path) as table:
            table.write(result())
    else:
        path.write_text("dear diary\n")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--force"), BatchCsv(path):
        pass
    assert path.read_bytes() == before
    with BatchCsv(path, force=True):
        pass
    assert rows(path) == []


@pytest.mark.parametrize("content", [b"", b"header"])
def test_a_file_without_rows_is_free(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.csv"
    path.touch()
    if content:
        with BatchCsv(path):
            pass
    with BatchCsv(path) as table:
        table.write(result())
    assert len(rows(path)) == 1


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    BatchCsv(tmp_path / "results.csv").check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["missing/results.csv", ""])
def test_an_impossible_place_is_an_output_error(tmp_path: Path, place: str) -> None:
    with pytest.raises(OutputError):
        BatchCsv(tmp_path / place).check()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="No space left"), BatchCsv("/dev/full"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_row_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "results.csv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with BatchCsv(path) as table:
            table.write(result("first.mp4"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
            with pytest.raises(OutputError, match="rows before it are kept"):
                table.write(result("second.mp4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert [row["path"] for row in rows(path)] == ["first.mp4"]
    assert path.read_bytes().endswith(b"\n")
