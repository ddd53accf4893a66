"""Reading back the table of a batch, whatever its format, into the same typed rows."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from torchfakes_cli.report import BATCH_COLUMNS, BatchRow
from torchfakes_cli.report.columns import column_types

#: One ending a format.
ENDINGS = [".csv", ".jsonl", ".sqlite", ".parquet"]


def journal_of(path: Path) -> Path:
    """The journal of a table."""
    return path.with_name(path.name + ".journal")


def rows(path: Path) -> list[BatchRow]:
    """The rows in the order of the file; columns that aren't ours, or in another order, are an error."""
    columns, values = {".csv": _csv, ".jsonl": _jsonl, ".sqlite": _sqlite, ".parquet": _parquet}[path.suffix](path)
    assert tuple(columns) == BATCH_COLUMNS
    return [BatchRow(*each) for each in values]


def paths(path: Path) -> list[str]:
    """The paths as they stand in the table."""
    return [row.path for row in rows(path)]


def timeline(path: Path, name: str) -> list[tuple[object, ...]]:
    """What a database has of the faces of one file, without the path."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT * FROM timeline WHERE path = ? ORDER BY rowid", (name,)).fetchall()
    return [row[1:] for row in found]


def _csv(path: Path) -> tuple[list[str], list[list[object]]]:
    with path.open(encoding="utf-8", newline="") as file:
        header, *body = csv.reader(file, strict=True)
    kinds = column_types(BatchRow).values()
    return header, [[kind(cell) if cell else None for kind, cell in zip(kinds, row, strict=True)] for row in body]


def _jsonl(path: Path) -> tuple[list[str], list[list[object]]]:
    text = path.read_text(encoding="ascii")
    assert text == "" or text.endswith("\n")
    objects = [json.loads(line) for line in text.splitlines()]
    assert len({tuple(each) for each in objects}) <= 1
    return list(objects[0]) if objects else list(BATCH_COLUMNS), [list(each.values()) for each in objects]


def _sqlite(path: Path) -> tuple[list[str], list[list[object]]]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        found = database.execute("SELECT * FROM results")
        return [column[0] for column in found.description], [list(row) for row in found]


def _parquet(path: Path) -> tuple[list[str], list[list[object]]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return table.column_names, [list(row.values()) for row in table.to_pylist()]
