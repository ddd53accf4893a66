"""A batch as an SQLite database, to be queried while it grows: ``results`` has a row a file, ``timeline`` one a face.

A row and its timeline are added in one transaction. The journal is a rollback journal and not a write-ahead log, which
needs shared memory and so doesn't work on network drives. Somebody who reads for long keeps others from writing: rows
then wait, here and in the companion, and are added with the next one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from torchfakes_cli.errors import OutputError
from torchfakes_cli.report.batch.row import BATCH_COLUMNS, BatchRow, column_types
from torchfakes_cli.report.batch.table_file import LATER, Record, check_regular, not_ours
from torchfakes_cli.report.cells import distinct_names
from torchfakes_cli.report.files import existing, unwritable
from torchfakes_cli.report.timeline_row import TIMELINE_COLUMNS, TimelineRow

# "tfak": in bytes 68 to 71 of the file, see https://www.sqlite.org/fileformat2.html#application_id
_APPLICATION_ID = 0x7466616B
#: Goes up when the tables change.
_VERSION = 1
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100

#: Seconds to wait for somebody who reads: an interruption must not take long.
_PATIENCE_S = 1.0

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
#: What is left is no database, or not this one: damaged, or without its tables. A full disk isn't among them.
_RUINED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}

_KINDS = {str: "TEXT", int: "INTEGER", float: "REAL"}


class SqliteFile:
    """See ``TableFile``. The rows of ``results`` are in the order of the candidates, by their rowid.

    Args:
        path: of the table.
        part: where a new database is made first.
    """

    holds_timelines = True

    def __init__(self, path: Path, part: Path) -> None:
        self._path = path
        self._part = part
        self._database: sqlite3.Connection | None = None
        self._waiting: list[Record] = []
        self._sound = False

    @property
    def lags(self) -> bool:
        """See ``TableFile``."""
        return bool(self._waiting)

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """See ``TableFile``."""
        return distinct_names(paths)

    def earlier(self, *, force: bool) -> list[str]:
        """See ``TableFile``."""
        check_regular(self._path, "a database")
        header = existing(self._path, _HEADER_BYTES)
        if force or not header:
            return []
        if not _is_ours(header):
            raise not_ours(self._path)
        with suppress(sqlite3.DatabaseError), closing(self._connect()) as database:
            return [name for (name,) in database.execute("SELECT path FROM results ORDER BY rowid")]
        return []  # damaged: it is made again

    def settle(self, records: Sequence[Record]) -> None:
        """See ``TableFile``."""
        with self._translated():
            try:
                self._settle(records)
            except sqlite3.DatabaseError as error:
                if _plain_code(error) not in _RUINED:
                    raise
                self._make_anew()
                self._settle(records)
        self._waiting = []

    def write(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """See ``TableFile``."""
        self._waiting.append(record)
        assert self._database is not None
        try:
            with _transaction(self._database):
                for waiting in self._waiting:
                    _put(self._database, waiting)
        except sqlite3.DatabaseError as error:
            if _plain_code(error) not in _BUSY:
                self.settle(records())
        else:
            self._waiting = []

    def close(self) -> None:
        """See ``TableFile``."""
        if self._database:
            self._database.close()
            self._database = None

    def _settle(self, records: Sequence[Record]) -> None:
        self.close()  # it may have been taken away or replaced meanwhile
        if not _is_ours(existing(self._path, _HEADER_BYTES) or b""):
            self._make_anew()
        self._database = self._connect()
        # Once a run: SQLite itself doesn't notice that a copy, say, has lost its end.
        if not self._sound and self._database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            self._make_anew()
            self._database = self._connect()
        self._sound = True
        with _transaction(self._database):
            _settle(self._database, records)

    def _make_anew(self) -> None:
        """Puts a database without rows in the place."""
        self.close()
        with closing(sqlite3.connect(self._part, isolation_level=None)) as database:
            # Nobody sees it until it is done.
            database.execute("PRAGMA journal_mode = MEMORY")
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
            for statement in _SCHEMA:
                database.execute(statement)
        target = Path(os.path.realpath(self._path))
        # What was left beside an earlier database would be taken for this one's and spoil it.
        for ending in ("-journal", "-wal", "-shm"):
            target.with_name(target.name + ending).unlink(missing_ok=True)
        self._part.replace(target)

    def _connect(self) -> sqlite3.Connection:
        # Through an address, for only that keeps SQLite from making a file where there is none.
        address = Path(os.path.realpath(self._path)).as_uri() + "?mode=rw"
        database = sqlite3.connect(address, uri=True, timeout=_PATIENCE_S, isolation_level=None)
        database.execute("PRAGMA foreign_keys = ON")
        return database

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _plain_code(error) in _BUSY:
                advice = f"Close the program that reads it. {LATER}"
                raise OutputError("is in use by another program", path=self._path, advice=advice) from error
            raise OutputError(f"can't be written: {error}", path=self._path, advice=LATER) from error
        except OSError as error:
            raise unwritable(self._path, error, advice=LATER) from error


def _table(name: str, columns: dict[str, str]) -> str:
    lines = ",\n".join(f"    {column} {kind}" for column, kind in columns.items())
    return f"CREATE TABLE {name} (\n{lines}\n)"


_SCHEMA = (
    _table(
        "results",
        {column: _KINDS[kind] for column, kind in column_types(BatchRow).items()}
        | {"path": "TEXT PRIMARY KEY NOT NULL", "status": "TEXT NOT NULL"},
    ),
    _table(
        "timeline",
        {"path": "TEXT NOT NULL REFERENCES results (path) ON DELETE CASCADE"}
        | {column: _KINDS[kind] for column, kind in column_types(TimelineRow).items()},
    ),
    "CREATE INDEX timeline_by_path ON timeline (path)",
)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_TIMELINE = ", ".join(TIMELINE_COLUMNS)
_RESULT = ", ".join(BATCH_COLUMNS)
_PUT_RESULT = f"INSERT INTO results (rowid, {_RESULT}) VALUES ({_marks(1 + len(BATCH_COLUMNS))})"
_PUT_FACE = f"INSERT INTO timeline (path, {_TIMELINE}) VALUES ({_marks(1 + len(TIMELINE_COLUMNS))})"


def _put(database: sqlite3.Connection, record: Record) -> None:
    """Adds a row, in place of the one with its path."""
    database.execute("DELETE FROM results WHERE path = ?", (record.name,))
    database.execute(_PUT_RESULT, (record.position, *record.values))
    database.executemany(_PUT_FACE, ((record.name, *row) for row in record.timeline()))


def _settle(database: sqlite3.Connection, records: Sequence[Record]) -> None:
    positions = {record.name: record.position for record in records}
    there = dict(database.execute("SELECT path, rowid FROM results"))
    for name in there.keys() - positions.keys():
        database.execute("DELETE FROM results WHERE path = ?", (name,))
    moved = [name for name, position in there.items() if positions.get(name, position) != position]
    # Out of each other's way first.
    database.executemany("UPDATE results SET rowid = -1 - rowid WHERE path = ?", ((name,) for name in moved))
    database.executemany("UPDATE results SET rowid = ? WHERE path = ?", ((positions[name], name) for name in moved))
    database.execute("DELETE FROM timeline WHERE path NOT IN (SELECT path FROM results)")
    rows = {row[0]: row for row in database.execute(f"SELECT {_RESULT} FROM results")}
    faces = dict(database.execute("SELECT path, count(*) FROM timeline GROUP BY path"))
    for record in records:
        if rows.get(record.name) != record.values or faces.get(record.name, 0) != record.faces:
            _put(database, record)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _plain_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more of the same


def _is_ours(header: bytes) -> bool:
    """Whether a database of ours begins like this; one that is torn in its first bytes holds nothing of anybody's."""
    if len(header) < _HEADER_BYTES:
        return _MAGIC.startswith(header[: len(_MAGIC)]) if header else False
    numbers = [int.from_bytes(header[at : at + 4], "big") for at in (60, 68)]
    return header.startswith(_MAGIC) and numbers == [_VERSION, _APPLICATION_ID]
