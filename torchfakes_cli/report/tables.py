"""Table formats: CSV and JSON Lines, which grow row by row, and SQLite and Parquet, which are written as a whole.

Every row is in the journal first (``journal``), so that a table may lag behind and can be restored.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.files import append, existing, is_special, unwritable, write_atomically
from torchfakes_cli.report.csv import csv_cells, csv_line, distinct_names, escape_undecodable, text_cell
from torchfakes_cli.report.rows import BATCH_COLUMNS, TIMELINE_COLUMNS, BatchRow, TimelineRow, column_types

OTHER_PATH = "Choose another path with -o."
_LATER = "The rows before it are kept. Run the same command again to go on."

_JSONL = (".jsonl", ".ndjson")
_SQLITE = (".sqlite", ".sqlite3", ".db")
_PARQUET = (".parquet",)
#: Suffixes that are refused, because they belong to formats that aren't written.
_NOT_WRITTEN = (".json", ".xlsx", ".xls", ".ods", ".feather", ".arrow", ".orc")

#: Seconds between two versions of a table that is written whole; more where writing takes long (_SHARE of the time).
_EVERY_S = 10.0
_SHARE = 0.05

#: "tfak", bytes 68 to 71 of the file: https://www.sqlite.org/fileformat2.html#application_id
_APPLICATION_ID = 0x7466616B
_SQLITE_VERSION = 1  # goes up when the tables change
_SQLITE_KINDS = {str: "TEXT", int: "INTEGER", float: "REAL"}


@dataclass(frozen=True, slots=True)
class Record:
    """Row of a table.

    Attributes:
        name: path as it is written in the table.
        row: row of the file.
        timeline: reads its timeline from the journal; empty if the table has no timelines.
    """

    name: str
    row: BatchRow
    timeline: Callable[[], Sequence[TimelineRow]]

    @property
    def values(self) -> BatchRow:
        """Row with ``name`` as its path, and with all text encodable."""
        model, error = self.row.model, self.row.error
        return self.row._replace(
            path=self.name, model=model and escape_undecodable(model), error=error and escape_undecodable(error)
        )


class Table(ABC):
    """Table file of one format.

    Args:
        path: path of the table.
        part: temporary path of a new version, in the folder of the resolved ``path``.

    Attributes:
        holds_timelines: True if the format has timelines.
        lags: True if appended rows aren't in the file yet.
    """

    holds_timelines = False
    lags = False

    def __init__(self, path: Path, part: Path) -> None:
        self._path = path
        self._part = part

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """Return the name of each path in the table."""
        return distinct_names(paths)

    def earlier(self, *, force: bool = False) -> list[str]:
        """Return the names in the existing file; empty if it is missing or empty, or with ``force``.

        Raises:
            OutputError: the path holds another file, or can't be read and written.
            UsageError: a package is missing.
        """
        names = self._names_there() if existing(self._path, 1) and not force else []
        if names is None:
            raise not_ours(self._path, "results")
        return names

    @abstractmethod
    def _names_there(self) -> list[str] | None:
        """Return the names in a file that isn't empty; None if it isn't a torchfakes table."""

    @abstractmethod
    def settle(self, records: Sequence[Record]) -> None:
        """Make the file hold exactly these records, in this order.

        Raises:
            OutputError: it can't be written.
        """

    @abstractmethod
    def append(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """Add one row.

        Args:
            record: new row.
            records: returns the complete content of the file, including the new row.
            replaces: True if the file has a row of that path.

        Raises:
            OutputError: the row can't be written.
        """

    def close(self) -> None:  # noqa: B027 - only some formats keep a file open
        """Close the file."""


class LineTable(Table):
    """Text file with one row per line, which is on disk when ``append`` returns.

    Devices and pipes get all rows one after another.
    """

    header = ""

    def __init__(self, path: Path, part: Path) -> None:
        super().__init__(path, part)
        self._special = is_special(path)
        self._file: FileIO | None = None

    @abstractmethod
    def line(self, record: Record) -> str:
        """Format one row, with its line end."""

    @abstractmethod
    def names_in(self, content: bytes) -> list[str] | None:
        """Return the names in the complete rows of a table, which may be truncated; None for other content."""

    def earlier(self, *, force: bool = False) -> list[str]:
        """See ``Table``."""
        return [] if self._special else super().earlier(force=force)

    def _names_there(self) -> list[str] | None:
        return self.names_in(existing(self._path) or b"")

    def settle(self, records: Sequence[Record]) -> None:
        """See ``Table``; a device or a pipe is only begun."""
        if self._special:
            if not self._file:
                self._open("wb")
                self._add(self.header)
            return
        self.close()  # Windows replaces no open file
        content = (self.header + "".join(map(self.line, records))).encode("utf-8")
        if existing(self._path) != content:
            write_atomically(self._path, content, temporary=self._part)
        self._open("ab")

    def append(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """See ``Table``."""
        if replaces and not self._special:
            self.settle(records())
        else:
            self._add(self.line(record))

    def close(self) -> None:
        """See ``Table``."""
        if self._file:
            self._file.close()
            self._file = None

    def _open(self, mode: str) -> None:
        try:
            self._file = FileIO(self._path, mode)
        except OSError as error:
            raise unwritable(self._path, error, advice=OTHER_PATH) from error

    def _add(self, text: str) -> None:
        assert self._file is not None
        append(self._file, text.encode("utf-8"), self._path)


class CsvTable(LineTable):
    """CSV table: a header, then one row per file."""

    header = csv_line(BATCH_COLUMNS)

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """See ``Table``."""
        return {path: text_cell(path) for path in paths}

    def line(self, record: Record) -> str:
        """See ``LineTable``."""
        return csv_line(csv_cells(BATCH_COLUMNS, record.row))

    def names_in(self, content: bytes) -> list[str] | None:
        """See ``LineTable``; a table that a Windows editor has saved is ours as well."""
        header = self.header.encode("ascii")
        if not header.startswith(content) and content.split(b"\n", 1)[0].rstrip(b"\r") != header.rstrip(b"\n"):
            return None
        rows: list[list[str]] = []
        with suppress(csv.Error):  # a damaged file: the rows up to there are good
            rows.extend(csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")))
        return [cells[0] for cells in rows[1:] if len(cells) == len(BATCH_COLUMNS)]


class JsonLinesTable(LineTable):
    """JSON Lines table: one flat object per file with the columns of the CSV table; timelines are only in ``--json``.

    It is ASCII, so that no reader splits a line at an exotic line break in a name.
    """

    def line(self, record: Record) -> str:
        """See ``LineTable``."""
        return json.dumps(record.values._asdict(), allow_nan=False, separators=(",", ":")) + "\n"

    def names_in(self, content: bytes) -> list[str] | None:
        """See ``LineTable``."""
        first, *rest = content.split(b"\n")
        if rest:
            names = [_json_name(line) for line in (first, *rest[:-1])]
            return None if names[0] is None else [name for name in names if name is not None]
        beginning = b'{"path":"'
        return [] if beginning.startswith(first) or first.startswith(beginning) else None


def _json_name(line: bytes) -> str | None:
    with suppress(ValueError):
        fields = json.loads(line)
        if isinstance(fields, dict) and set(fields) == set(BATCH_COLUMNS):
            return str(fields["path"])
    return None


class WholeTable(Table):
    """Table that is written atomically from all records, at intervals and at the end.

    Readers that have the old version open keep it.
    """

    _next_s = 0.0

    def earlier(self, *, force: bool = False) -> list[str]:
        """See ``Table``."""
        if is_special(self._path):
            raise OutputError("this format can't go to a device or a pipe", path=self._path, advice=OTHER_PATH)
        return super().earlier(force=force)

    @abstractmethod
    def rows_there(self) -> list[tuple[Any, ...]] | None:
        """Return the rows in a file that isn't empty; None if it isn't a torchfakes table."""

    @abstractmethod
    def write_part(self, records: Sequence[Record]) -> None:
        """Write the new version of the file to ``part``."""

    def _names_there(self) -> list[str] | None:
        rows = self.rows_there()
        return rows if rows is None else [str(row[0]) for row in rows]

    def settle(self, records: Sequence[Record]) -> None:
        """See ``Table``."""
        if self.lags or not existing(self._path, 1) or self.rows_there() != [record.values for record in records]:
            self._write(records)

    def append(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """See ``Table``; where it can't be written just now, it is tried again later."""
        self.lags = True
        if time.monotonic() >= self._next_s:
            with suppress(OutputError):
                self._write(records())

    def _write(self, records: Sequence[Record]) -> None:
        started = time.monotonic()
        try:
            self._part.unlink(missing_ok=True)
            self.write_part(records)
            with self._part.open("r+b") as file:
                os.fsync(file.fileno())
            self._part.replace(os.path.realpath(self._path))
            self.lags = False
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise unwritable(self._path, error, advice=_LATER) from error
        finally:
            ended = time.monotonic()
            self._next_s = ended + max(_EVERY_S, (ended - started) / _SHARE)


class SqliteTable(WholeTable):
    """SQLite table: ``results`` has one row per file, ``timeline`` one row per face, joined by ``path``."""

    holds_timelines = True

    def rows_there(self) -> list[tuple[Any, ...]] | None:
        """See ``WholeTable``; a damaged database of ours counts as empty."""
        import sqlite3

        if not is_database(existing(self._path, 100) or b"", _APPLICATION_ID, _SQLITE_VERSION):
            return None
        address = Path(os.path.realpath(self._path)).as_uri() + "?mode=rw"  # makes no file where there is none
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(address, uri=True)) as database:
            database.execute("SELECT 1 FROM timeline LIMIT 1")
            if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return database.execute(f"SELECT {', '.join(BATCH_COLUMNS)} FROM results ORDER BY rowid").fetchall()
        return []

    def write_part(self, records: Sequence[Record]) -> None:
        """See ``WholeTable``."""
        import sqlite3

        try:
            with closing(sqlite3.connect(self._part, isolation_level=None)) as database:
                database.execute("PRAGMA journal_mode = OFF")  # the file is not visible until it is complete
                database.execute("PRAGMA synchronous = OFF")
                for statement in _SQLITE_SCHEMA:
                    database.execute(statement)
                database.execute("BEGIN")
                database.executemany(_insert("results", BATCH_COLUMNS), (record.values for record in records))
                faces = ((record.name, *face) for record in records for face in record.timeline())
                database.executemany(_insert("timeline", ("path", *TIMELINE_COLUMNS)), faces)
                database.execute("COMMIT")
                database.execute("CREATE INDEX timeline_by_path ON timeline (path)")
        except sqlite3.Error as error:
            self._part.unlink(missing_ok=True)
            raise OutputError(f"can't be written: {error}", path=self._path, advice=_LATER) from error
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


class ParquetTable(WholeTable):
    """Parquet table."""

    def earlier(self, *, force: bool = False) -> list[str]:
        """See ``Table``."""
        if importlib.util.find_spec("pyarrow") is None:
            advice = "Install it: pip install 'torchfakes[parquet]'."
            raise UsageError("a Parquet file needs pyarrow", path=self._path, advice=advice)
        return super().earlier(force=force)

    def rows_there(self) -> list[tuple[Any, ...]] | None:
        """See ``WholeTable``."""
        import pyarrow.parquet
        from pyarrow import ArrowException

        with suppress(ArrowException, OSError), pyarrow.parquet.ParquetFile(self._path) as file:
            if file.schema_arrow.names == list(BATCH_COLUMNS):
                return list(zip(*(column.to_pylist() for column in file.read().columns), strict=True))
        return None

    def write_part(self, records: Sequence[Record]) -> None:
        """See ``WholeTable``."""
        import pyarrow
        import pyarrow.parquet

        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        schema = pyarrow.schema([(column, kinds[kind]) for column, kind in column_types(BatchRow).items()])
        columns = list(zip(*(record.values for record in records), strict=True)) or [()] * len(BATCH_COLUMNS)
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), self._part)


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
    formats: dict[tuple[str, ...], type[Table]] = {
        _JSONL: JsonLinesTable,
        _SQLITE: SqliteTable,
        _PARQUET: ParquetTable,
    }
    return next((kind for endings, kind in formats.items() if ending in endings), CsvTable)(path, part)


def check_is_csv(path: str | PathLike[str]) -> None:
    """Check that the path of a CSV timeline doesn't have the suffix of another format.

    Raises:
        UsageError: it has.
    """
    ending = Path(path).suffix.lower()
    if ending in (*_JSONL, *_SQLITE, *_PARQUET, *_NOT_WRITTEN):
        raise UsageError(
            f"the timeline of one video is CSV, not {ending}",
            path=path,
            advice="Choose a name that ends in .csv, or print everything with --json.",
        )


def not_ours(path: Path, kind: str) -> OutputError:
    """Return the error for another file in the place of an output."""
    return OutputError(
        f"exists and holds no {kind} of torchfakes",
        path=path,
        advice="Choose another path with -o, or replace it with --force.",
    )
