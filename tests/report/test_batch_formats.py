"""What one format of a table has alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.results import TIMELINE, failure, result
from tests.report.tables import journal_of, paths, rows, timeline
from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.report import TIMELINE_COLUMNS, BatchTable, Stamp, check_batch_target
from torchfakes_cli.report import journal as store

STAMP = Stamp(1000, 1, "settings")
NAMES = ["a.mp4", "b.mp4", "c.mp4"]
STAMPS = dict.fromkeys(NAMES, STAMP)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def test_a_torn_last_line_of_jsonl_is_made_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with BatchTable(path, STAMPS) as table:
        table.write(result("a.mp4"))
        table.write(result("b.mp4"))
    whole = path.read_bytes()
    for torn in (whole[:-30], whole[:5]):
        path.write_bytes(torn)
        with BatchTable(path, STAMPS) as table:
            assert list(table.kept) == ["a.mp4", "b.mp4"]
            assert path.read_bytes() == whole


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_row_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"results{ending}"
    with BatchTable(path, STAMPS) as table:
        assert rows(path) == []
        table.write(result("b.mp4"))
        assert paths(path) == ["b.mp4"]
        table.write(failure("a.mp4"))
        assert sorted(paths(path)) == ["a.mp4", "b.mp4"]


def test_a_database_has_the_faces_of_each_file(database: Path) -> None:
    with BatchTable(database, STAMPS) as table:
        table.write(failure("b.mp4"))
        table.write(result("a.mp4"))
    scored, blurry, faceless = timeline(database, "a.mp4")
    assert scored == (0.0, 0, 1, -3.0, 10.0, 61.2, 80.0, 0.9999, 120.5, -1.25, 0.2227, None)
    assert blurry[-4:] == (3.0, None, None, "blurry")
    assert faceless == (1.0, *[None] * 10, "no_face")
    assert timeline(database, "b.mp4") == []
    with BatchTable(database, STAMPS) as table:
        table.write(replace(result("b.mp4"), timeline=TIMELINE[:1]))
        table.write(replace(result("b.mp4"), timeline=TIMELINE[1:]))
    assert timeline(database, "b.mp4") == timeline(database, "a.mp4")[1:]
    with closing(sqlite3.connect(database)) as reader:
        columns = [row[1] for row in reader.execute("PRAGMA table_info(timeline)")]
    assert columns == ["path", *TIMELINE_COLUMNS]


def test_faces_stay_with_their_row(database: Path) -> None:
    def face_counts() -> list[int]:
        return [len(timeline(database, name)) for name in NAMES]

    with BatchTable(database, STAMPS) as table:
        for name in NAMES:
            table.write(result(name))
    journal_of(database).unlink()
    with BatchTable(database, {"a.mp4": STAMP}):
        assert face_counts() == [3, 3, 3]
    database.unlink()
    with BatchTable(database, STAMPS):
        assert face_counts() == [3, 3, 3]


def test_a_reader_keeps_its_version_of_a_database_and_hinders_nobody(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_EVERY_S", 0.0)
    monkeypatch.setattr(store, "_SHARE", 1e9)
    with BatchTable(database, STAMPS) as table:
        table.write(result("a.mp4"))
        with closing(sqlite3.connect(database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
            table.write(result("b.mp4"))
            assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
            assert paths(database) == ["a.mp4", "b.mp4"]
        table.write(result("c.mp4"))
    assert paths(database) == NAMES


def test_somebody_elses_database_is_kept(database: Path) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE results (path TEXT PRIMARY KEY)")
    before = database.read_bytes()
    with pytest.raises(OutputError, match="--force"):
        check_batch_target(database)
    assert database.read_bytes() == before


def test_a_database_of_a_later_version_is_kept(database: Path) -> None:
    with BatchTable(database, STAMPS) as table:
        table.write(result("a.mp4"))
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="--force"):
        check_batch_target(database)


def test_a_hot_journal_of_an_earlier_version_spoils_no_new_database(database: Path) -> None:
    with BatchTable(database, STAMPS) as table:
        table.write(result("a.mp4"))
    script = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size = 1')\n"  # what is written goes to the disk before it is committed
        "database.execute('BEGIN IMMEDIATE'); database.execute('DELETE FROM results')\n"
        "database.execute(\"INSERT INTO results (path, status, error) VALUES ('z', 'ok', ?)\", ('x' * 100_000,))\n"
        "os._exit(9)"
    )
    for gone in (False, True):
        subprocess.run([sys.executable, "-c", script, str(database)], check=False)
        assert Path(f"{database}-journal").exists()
        if gone:
            database.unlink()
        with BatchTable(database, STAMPS) as table:
            assert list(table.kept) == ["a.mp4"]
        assert paths(database) == ["a.mp4"]


@pytest.mark.parametrize("damage", ["page", "table"])
def test_a_damaged_database_is_made_anew(database: Path, damage: str) -> None:
    with BatchTable(database, STAMPS) as table:
        for name in NAMES:
            table.write(result(name))
    whole = rows(database)
    if damage == "page":
        content = database.read_bytes()
        database.write_bytes(content[:100] + bytes(len(content) - 100))
    else:
        with closing(sqlite3.connect(database)) as other:
            other.execute("DROP TABLE timeline")
    with BatchTable(database, STAMPS) as table:
        assert list(table.kept) == NAMES
    assert rows(database) == whole


@pytest.mark.parametrize("ending", [".sqlite", ".parquet"])
def test_what_is_written_whole_is_written_every_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(store, "_EVERY_S", 0.2)
    monkeypatch.setattr(store, "_SHARE", 1e9)
    path = tmp_path / f"results{ending}"
    with BatchTable(path, STAMPS) as table:
        table.write(result("a.mp4"))
        assert paths(path) == []
        time.sleep(0.3)
        table.write(result("b.mp4"))
        assert paths(path) == ["a.mp4", "b.mp4"]


def test_the_types_of_parquet_are_there_without_a_row(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "results.parquet"
    with BatchTable(path, STAMPS) as table:
        empty = parquet.read_schema(path)
        table.write(failure("a.mp4"))
    assert parquet.read_schema(path) == empty
    assert {str(kind) for kind in empty.types} == {"string", "int64", "double"}


def test_somebody_elses_parquet_is_kept(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "results.parquet"
    parquet.write_table(pyarrow.table({"path": ["a.mp4"]}), path)
    with pytest.raises(OutputError, match="--force"):
        check_batch_target(path)


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it weren't there
    with pytest.raises(UsageError, match=r"pip install 'torchfakes\[parquet\]'"):
        check_batch_target(tmp_path / "results.parquet")
    assert list(tmp_path.iterdir()) == []
