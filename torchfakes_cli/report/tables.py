"""Tables of many files as JSON Lines, SQLite and Parquet; CSV is in ``csv``, and ``journal`` keeps them complete."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from torchfakes_cli.errors import UsageError
from torchfakes_cli.files import existing
from torchfakes_cli.report.columns import (
    BatchRow,
    TimelineRow,
    are_batch_columns,
    column_types,
)
from torchfakes_cli.report.csv import CsvTable, LineTable

#: Suffixes that are refused, because they belong to formats that aren't written.
_NOT_WRITTEN = (".json", ".xlsx", ".xls", ".ods", ".feather", ".arrow", ".orc")

#: "tfak", bytes 68 to 71 of the file: https://www.sqlite.org/fileformat2.html#application_id
_APPLICATION_ID = 0x7466616B
_SQLITE_VERSION = 1  # goes up when the tables change, except by new columns


class JsonLinesTable(LineTable):
    """JSON Lines table: one flat object per file with the columns of the CSV table; timelines are only in ``--json``.

    It is ASCII, so that no reader splits a line at an exotic line break in a name.
    """

    def line(self, row: BatchRow) -> str:
        """See ``LineTable``."""
        return json.dumps(row._asdict(), allow_nan=False, separators=(",", ":")) + "\n"

    def read(self) -> list[BatchRow] | None:
        """See ``LineTable``."""
        content = (existing(self._path) or b"").removeprefix(b"\xef\xbb\xbf")
        *lines, torn = content.split(b"\n")
        if not lines:
            beginning = b'{"path":"'
            return [] if beginning.startswith(torn) or torn.startswith(beginning) else None
        rows = list(map(_row_of_json, lines))
        return None if rows[0] is None else [row for row in rows if row is not None]


def _row_of_json(line: bytes) -> BatchRow | None:
    with suppress(ValueError):
        fields = json.loads(line)
        if isinstance(fields, dict) and are_batch_columns(list(fields)):
            return BatchRow(**fields)
    return None


class SqliteTable:
    """SQLite table, written whole: ``results`` has one row per file, ``timeline`` one per face, joined by ``path``.

    Args:
        path: path of the table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[BatchRow] | None:
        """See ``LineTable``; a damaged database of ours counts as empty."""
        if not is_database(existing(self._path, 100) or b"", _APPLICATION_ID, _SQLITE_VERSION):
            return None
        with suppress(sqlite3.DatabaseError), self._reading() as database:
            database.execute("SELECT 1 FROM timeline LIMIT 1")
            if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                found = database.execute("SELECT * FROM results ORDER BY rowid")
                if are_batch_columns([column[0] for column in found.description]):
                    return [BatchRow(*row) for row in found]
        return []

    def timelines(self) -> dict[str, list[TimelineRow]]:
        """Return the timelines in the file, by path."""
        faces: dict[str, list[TimelineRow]] = {}
        with suppress(sqlite3.DatabaseError), self._reading() as database:
            for path, *values in database.execute("SELECT * FROM timeline ORDER BY rowid"):
                faces.setdefault(path, []).append(TimelineRow(*values))
        return faces

    def write(self, target: Path, rows: Sequence[BatchRow], timelines: Iterable[Sequence[TimelineRow]]) -> None:
        """Write all rows, and their timelines in the same order, to a new file in place of the table."""
        with closing(sqlite3.connect(target, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = OFF")  # the file is not visible until it is complete
            database.execute("PRAGMA synchronous = OFF")
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {_SQLITE_VERSION}")
            database.execute("BEGIN")
            _fill(database, "results", _RESULTS, rows)
            faces = ((row.path, *face) for row, timeline in zip(rows, timelines, strict=True) for face in timeline)
            _fill(database, "timeline", _TIMELINE, faces)
            database.execute("CREATE INDEX timeline_by_path ON timeline (path)")
            database.execute("COMMIT")
        # SQLite would apply journals of the old file, left by an interrupted program, to the new one.
        for ending in ("-journal", "-wal", "-shm"):
            Path(os.path.realpath(self._path) + ending).unlink(missing_ok=True)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        address = Path(os.path.realpath(self._path)).as_uri() + "?mode=rw"  # makes no file where there is none
        with closing(sqlite3.connect(address, uri=True)) as database:
            yield database


def _fill(
    database: sqlite3.Connection, table: str, columns: dict[str, str], rows: Iterable[tuple[object, ...]]
) -> None:
    created = ",\n".join(f"    {column} {kind}" for column, kind in columns.items())
    database.execute(f"CREATE TABLE {table} (\n{created}\n)")
    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)


def _kinds(row: type[BatchRow | TimelineRow]) -> dict[str, str]:
    names = {str: "TEXT", int: "INTEGER", float: "REAL"}
    return {column: names[kind] for column, kind in column_types(row).items()}


_RESULTS = _kinds(BatchRow) | {"path": "TEXT PRIMARY KEY NOT NULL", "status": "TEXT NOT NULL"}
_TIMELINE = {"path": "TEXT NOT NULL REFERENCES results (path) ON DELETE CASCADE"} | _kinds(TimelineRow)


def is_database(header: bytes, application_id: int, version: int) -> bool:
    """Return True if the first 100 bytes, or fewer of a truncated file, are those of such an SQLite file."""
    magic = b"SQLite format 3\0"
    if len(header) < 100:
        return magic.startswith(header[: len(magic)])
    numbers = [int.from_bytes(header[at : at + 4], "big") for at in (60, 68)]
    return header.startswith(magic) and numbers == [version, application_id]


class ParquetTable:
    """Parquet table, written whole.

    Args:
        path: path of the table.

    Raises:
        UsageError: pyarrow is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if importlib.util.find_spec("pyarrow") is None:
            advice = "Install it: pip install 'torchfakes[parquet]'."
            raise UsageError("a Parquet file needs pyarrow", path=path, advice=advice)

    def read(self) -> list[BatchRow] | None:
        """See ``LineTable``."""
        import pyarrow.parquet
        from pyarrow import ArrowException

        with suppress(ArrowException, OSError), pyarrow.parquet.ParquetFile(self._path) as file:
            if are_batch_columns(file.schema_arrow.names):
                return [BatchRow(**row) for row in file.read().to_pylist()]
        return None

    def write(self, target: Path, rows: Sequence[BatchRow], _: Iterable[Sequence[TimelineRow]]) -> None:
        """Write all rows to a file in place of the table."""
        import pyarrow
        import pyarrow.parquet

        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        schema = pyarrow.schema([(column, kinds[kind]) for column, kind in column_types(BatchRow).items()])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row._asdict() for row in rows], schema=schema), target)


Table = LineTable | SqliteTable | ParquetTable
_FORMATS: dict[str, type[Table]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), JsonLinesTable),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), SqliteTable),
    ".parquet": ParquetTable,
}


def open_table(path: Path) -> Table:
    """Create the table for the suffix of a path; unknown suffixes give CSV.

    Raises:
        UsageError: the format of this suffix isn't supported, or a package is missing.
    """
    ending = path.suffix.lower()
    if ending in _NOT_WRITTEN:
        raise UsageError(
            f"results are not written as {ending}",
            path=path,
            advice="Choose a name that ends in .csv, .jsonl, .sqlite or .parquet.",
        )
    return _FORMATS.get(ending, CsvTable)(path)
