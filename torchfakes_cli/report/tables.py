"""Table formats: CSV and JSON Lines, which grow row by row, and SQLite and Parquet, which are written as a whole.

Every row is in the journal first (``journal``), so that a table may lag behind and can be restored.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.files import append, existing, is_special, unwritable
from torchfakes_cli.report.csv import csv_cells, csv_line, escape_undecodable, text_of_cell
from torchfakes_cli.report.rows import (
    BATCH_COLUMNS,
    FIRST_COLUMNS,
    TIMELINE_COLUMNS,
    BatchRow,
    TimelineRow,
    column_types,
)

OTHER_PATH = "Choose another path with -o."
_LATER = "The rows before it are kept. Run the same command again to go on."

#: Suffixes that are refused, because they belong to formats that aren't written.
_NOT_WRITTEN = (".json", ".xlsx", ".xls", ".ods", ".feather", ".arrow", ".orc")

#: Seconds between two versions of a table that is written whole; more where writing takes long (_SHARE of the time).
_EVERY_S = 10.0
_SHARE = 0.05

#: "tfak", bytes 68 to 71 of the file: https://www.sqlite.org/fileformat2.html#application_id
_APPLICATION_ID = 0x7466616B
_SQLITE_VERSION = 1  # goes up when the tables change, except by new columns
_SQLITE_KINDS = {str: "TEXT", int: "INTEGER", float: "REAL"}


@dataclass(frozen=True, slots=True)
class Record:
    """Row of a table.

    Attributes:
        row: row of the file, with its path as it is written in the table.
        timeline: reads its timeline from the journal; empty if the table has no timelines.
    """

    row: BatchRow
    timeline: Callable[[], Sequence[TimelineRow]]

    @property
    def values(self) -> BatchRow:
        """Row with all text encodable."""
        return BatchRow._make(escape_undecodable(value) if isinstance(value, str) else value for value in self.row)


class Table(ABC):
    """Table file of one format, written atomically from all records: readers that have the old version open keep it.

    Args:
        path: path of the table.
        part: temporary path of a new version, in the folder of the resolved ``path``.

    Attributes:
        holds_timelines: True if the format has timelines.
        takes_devices: True if the format can go to a device or a pipe.
        lags: True if some rows aren't in the file yet.
    """

    holds_timelines = False
    takes_devices = False
    lags = False
    _next_s = 0.0

    def __init__(self, path: Path, part: Path) -> None:
        self._path = path
        self._part = part

    def earlier(self, *, force: bool = False) -> list[BatchRow]:
        """Return the rows in the existing file; empty if it is missing or empty, or with ``force``.

        Raises:
            OutputError: the path holds another file, or can't be read and written.
            UsageError: a package is missing.
        """
        if is_special(self._path):
            if self.takes_devices:
                return []
            raise OutputError("this format can't go to a device or a pipe", path=self._path, advice=OTHER_PATH)
        rows = self.rows_there() if existing(self._path, 1) and not force else []
        if rows is None:
            raise not_ours(self._path, "results")
        return rows

    @abstractmethod
    def rows_there(self) -> list[BatchRow] | None:
        """Return the rows in a file that isn't empty; None if it isn't a torchfakes table."""

    def knows(self, columns: Sequence[str]) -> bool:
        """Return True for the columns of a table, which lacks the last ones if an earlier version wrote it."""
        self.lags |= tuple(columns) != BATCH_COLUMNS
        return len(columns) >= FIRST_COLUMNS and tuple(columns) == BATCH_COLUMNS[: len(columns)]

    @abstractmethod
    def write_part(self, records: Sequence[Record]) -> None:
        """Write a new version of the file to ``part``."""

    def timelines_there(self) -> dict[str, list[TimelineRow]]:
        """Return the timelines in the file, by path."""
        return {}

    def settle(self, records: Sequence[Record]) -> None:
        """Make the file hold exactly these records, in this order.

        Raises:
            OutputError: it can't be written.
        """
        if self.lags or not existing(self._path, 1) or not self._holds(records):
            self._write(records)

    def append(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """Add one row; where the file can't be written just now, it is tried again later.

        Args:
            record: new row.
            records: returns the complete content of the file, including the new row.
            replaces: True if the file has a row of that path.

        Raises:
            OutputError: the row can't be written.
        """
        self.lags = True
        if time.monotonic() >= self._next_s:
            with suppress(OutputError):
                self._write(records())

    def close(self) -> None:  # noqa: B027 - only some formats keep a file open
        """Close the file."""

    def _holds(self, records: Sequence[Record]) -> bool:
        return self.rows_there() == [record.values for record in records]

    def _write(self, records: Sequence[Record]) -> None:
        started = time.monotonic()
        self.close()  # Windows replaces no open file
        try:
            self._part.unlink(missing_ok=True)
            self.write_part(records)
            with self._part.open("r+b") as file:
                os.fsync(file.fileno())
            self._part.replace(os.path.realpath(self._path))
            self.lags = False
        except (OSError, sqlite3.Error) as error:
            self._part.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise unwritable(self._path, error, advice=_LATER) from error
            raise OutputError(f"can't be written: {error}", path=self._path, advice=_LATER) from error
        finally:
            ended = time.monotonic()
            self._next_s = ended + max(_EVERY_S, (ended - started) / _SHARE)


class LineTable(Table):
    """Text file with one row per line; a new row is on disk when ``append`` returns.

    Rows that replace earlier ones are written with the whole file. Devices and pipes get all rows one after another.
    """

    header = ""
    takes_devices = True

    def __init__(self, path: Path, part: Path) -> None:
        super().__init__(path, part)
        self._special = is_special(path)
        self._file: FileIO | None = None

    @abstractmethod
    def line(self, record: Record) -> str:
        """Format one row, with its line end."""

    def write_part(self, records: Sequence[Record]) -> None:
        """See ``Table``."""
        self._part.write_bytes(self._content(records))

    def settle(self, records: Sequence[Record]) -> None:
        """See ``Table``; a device or a pipe is only begun."""
        if not self._special:
            super().settle(records)
        elif not self._file:
            self._add(self.header)

    def append(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """See ``Table``."""
        if replaces and not self._special:
            super().append(record, records, replaces=True)
        else:
            self._add(self.line(record))

    def close(self) -> None:
        """See ``Table``."""
        if self._file:
            self._file.close()
            self._file = None

    def _content(self, records: Sequence[Record]) -> bytes:
        return (self.header + "".join(map(self.line, records))).encode("utf-8")

    def _holds(self, records: Sequence[Record]) -> bool:
        return existing(self._path) == self._content(records)

    def _add(self, text: str) -> None:
        if not self._file:
            try:
                self._file = FileIO(self._path, "wb" if self._special else "ab")
            except OSError as error:
                raise unwritable(self._path, error, advice=OTHER_PATH) from error
        append(self._file, text.encode("utf-8"), self._path)


class CsvTable(LineTable):
    """CSV table: a header, then one row per file."""

    header = csv_line(BATCH_COLUMNS)

    def line(self, record: Record) -> str:
        """See ``LineTable``."""
        return csv_line(csv_cells(BATCH_COLUMNS, record.row))

    def rows_there(self) -> list[BatchRow] | None:
        """See ``Table``; a table that a spreadsheet or a Windows editor has saved is ours as well."""
        content = (existing(self._path) or b"").decode("utf-8-sig", "replace")
        if self.header.startswith(content):
            return []
        lines = csv.reader(io.StringIO(content, newline=""))
        rows: list[BatchRow] = []
        with suppress(csv.Error):  # a damaged file: the rows up to there are good
            columns = next(lines)
            for separator in ";\t":
                if columns[0].startswith(f"path{separator}status{separator}"):
                    raise OutputError(
                        f"was saved with {separator!r} between its columns, as some spreadsheets do",
                        path=self._path,
                        advice="Save it as CSV with commas, or choose another path with -o.",
                    )
            if not self.knows(columns):
                return None
            kinds = [column_types(BatchRow)[column] for column in columns]
            rows.extend(
                # A table of an earlier version has fewer columns.
                BatchRow(*map(_value, cells, kinds))
                for cells in lines
                if len(cells) == len(columns) and cells[0]
            )
        return rows


def _value(cell: str, kind: type) -> Any:
    if kind is str or not cell:
        return text_of_cell(cell) or None
    with suppress(ValueError):
        return kind(cell)
    return None


class JsonLinesTable(LineTable):
    """JSON Lines table: one flat object per file with the columns of the CSV table; timelines are only in ``--json``.

    It is ASCII, so that no reader splits a line at an exotic line break in a name.
    """

    def line(self, record: Record) -> str:
        """See ``LineTable``."""
        return json.dumps(record.values._asdict(), allow_nan=False, separators=(",", ":")) + "\n"

    def rows_there(self) -> list[BatchRow] | None:
        """See ``Table``."""
        content = (existing(self._path) or b"").removeprefix(b"\xef\xbb\xbf")
        *lines, torn = content.split(b"\n")
        if not lines:
            beginning = b'{"path":"'
            return [] if beginning.startswith(torn) or torn.startswith(beginning) else None
        rows = [self._row(line) for line in lines]
        return None if rows[0] is None else [row for row in rows if row is not None]

    def _row(self, line: bytes) -> BatchRow | None:
        with suppress(ValueError):
            fields = json.loads(line)
            if isinstance(fields, dict) and self.knows(list(fields)):
                return BatchRow(**fields)
        return None


class SqliteTable(Table):
    """SQLite table: ``results`` has one row per file, ``timeline`` one row per face, joined by ``path``."""

    holds_timelines = True

    def rows_there(self) -> list[BatchRow] | None:
        """See ``Table``; a damaged database of ours counts as empty."""
        if not is_database(existing(self._path, 100) or b"", _APPLICATION_ID, _SQLITE_VERSION):
            return None
        with suppress(sqlite3.DatabaseError), self._reading() as database:
            database.execute("SELECT 1 FROM timeline LIMIT 1")
            if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                found = database.execute("SELECT * FROM results ORDER BY rowid")
                if self.knows([column[0] for column in found.description]):
                    return [BatchRow(*row) for row in found]
        return []

    def timelines_there(self) -> dict[str, list[TimelineRow]]:
        """See ``Table``."""
        faces: dict[str, list[TimelineRow]] = {}
        with suppress(sqlite3.DatabaseError), self._reading() as database:
            for path, *values in database.execute("SELECT * FROM timeline ORDER BY rowid"):
                faces.setdefault(path, []).append(TimelineRow(*values))
        return faces

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        address = Path(os.path.realpath(self._path)).as_uri() + "?mode=rw"  # makes no file where there is none
        with closing(sqlite3.connect(address, uri=True)) as database:
            yield database

    def write_part(self, records: Sequence[Record]) -> None:
        """See ``Table``."""
        with closing(sqlite3.connect(self._part, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = OFF")  # the file is not visible until it is complete
            database.execute("PRAGMA synchronous = OFF")
            for statement in _SQLITE_SCHEMA:
                database.execute(statement)
            database.execute("BEGIN")
            database.executemany(_insert("results", BATCH_COLUMNS), (record.values for record in records))
            faces = ((record.values.path, *face) for record in records for face in record.timeline())
            database.executemany(_insert("timeline", ("path", *TIMELINE_COLUMNS)), faces)
            database.execute("COMMIT")
            database.execute("CREATE INDEX timeline_by_path ON timeline (path)")
        # SQLite would apply journals of the old file, left by an interrupted program, to the new one.
        target = os.path.realpath(self._path)
        for ending in ("-journal", "-wal", "-shm"):
            Path(target + ending).unlink(missing_ok=True)


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _create(table: str, columns: Iterable[tuple[str, str]]) -> str:
    return f"CREATE TABLE {table} (\n" + ",\n".join(f"    {column} {kind}" for column, kind in columns) + "\n)"


def _kinds(row: type[tuple[object, ...]]) -> dict[str, str]:
    return {column: _SQLITE_KINDS[kind] for column, kind in column_types(row).items()}


_SQLITE_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SQLITE_VERSION}",
    _create("results", (_kinds(BatchRow) | {"path": "TEXT PRIMARY KEY NOT NULL", "status": "TEXT NOT NULL"}).items()),
    _create(
        "timeline",
        ({"path": "TEXT NOT NULL REFERENCES results (path) ON DELETE CASCADE"} | _kinds(TimelineRow)).items(),
    ),
)


def is_database(header: bytes, application_id: int, version: int) -> bool:
    """Return True if the first 100 bytes, or fewer of a truncated file, are those of such an SQLite file."""
    magic = b"SQLite format 3\0"
    if len(header) < 100:
        return magic.startswith(header[: len(magic)])
    numbers = [int.from_bytes(header[at : at + 4], "big") for at in (60, 68)]
    return header.startswith(magic) and numbers == [version, application_id]


class ParquetTable(Table):
    """Parquet table."""

    def earlier(self, *, force: bool = False) -> list[BatchRow]:
        """See ``Table``."""
        if importlib.util.find_spec("pyarrow") is None:
            advice = "Install it: pip install 'torchfakes[parquet]'."
            raise UsageError("a Parquet file needs pyarrow", path=self._path, advice=advice)
        return super().earlier(force=force)

    def rows_there(self) -> list[BatchRow] | None:
        """See ``Table``."""
        import pyarrow.parquet
        from pyarrow import ArrowException

        with suppress(ArrowException, OSError), pyarrow.parquet.ParquetFile(self._path) as file:
            if self.knows(file.schema_arrow.names):
                return [BatchRow(**row) for row in file.read().to_pylist()]
        return None

    def write_part(self, records: Sequence[Record]) -> None:
        """See ``Table``."""
        import pyarrow
        import pyarrow.parquet

        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        schema = pyarrow.schema([(column, kinds[kind]) for column, kind in column_types(BatchRow).items()])
        rows = [record.values._asdict() for record in records]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), self._part)


_FORMATS: dict[str, type[Table]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), JsonLinesTable),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), SqliteTable),
    ".parquet": ParquetTable,
}


def open_table(path: Path, part: Path) -> Table:
    """Create the table for the suffix of a path; unknown suffixes give CSV.

    Raises:
        UsageError: the format of this suffix isn't supported.
    """
    ending = path.suffix.lower()
    if ending in _NOT_WRITTEN:
        raise UsageError(
            f"results are not written as {ending}",
            path=path,
            advice="Choose a name that ends in .csv, .jsonl, .sqlite or .parquet.",
        )
    return _FORMATS.get(ending, CsvTable)(path, part)


def not_ours(path: Path, kind: str) -> OutputError:
    """Return the error for another file in the place of an output."""
    return OutputError(
        f"exists and holds no {kind} of torchfakes",
        path=path,
        advice="Choose another path with -o, or replace it with --force.",
    )
