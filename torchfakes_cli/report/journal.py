"""Resumable tables: every row is stored in a journal before it is written to the table of results.

Beside ``results.csv``, or a table of any other format, is ``results.csv.journal``, an SQLite database with one entry
per file: its row with the path exactly as given, its ``Stamp``, and its timeline if the table has timelines. After a
crash the table is restored from the journal, and a repeated command scans only the missing files. Without the journal
(deleted, or not copied) all files are scanned again. The state file of earlier versions, ``results.csv.state.jsonl``,
is imported once.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import check_folder, existing, is_special, try_lock, unwritable
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.rows import BatchRow, TimelineRow, batch_row, timeline_row
from torchfakes_cli.report.tables import OTHER_PATH, Record, Table, is_database, not_ours, open_table

if TYPE_CHECKING:
    from filelock import BaseFileLock

_APPLICATION_ID = 0x74666A6E  # "tfjn"
_VERSION = 1
_STATE_HEADER = b'{"torchfakes_batch_state":1}\n'
#: SQLite errors of a damaged database, as opposed to one that is temporarily not writable.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_PUT = "INSERT OR REPLACE INTO rows (path, row, stamp, timeline) VALUES (?, ?, ?, ?)"
_Fields = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Everything besides the path that a row depends on; a row is reused while its stamp is unchanged.

    Attributes:
        size: size of the file in bytes; None if it couldn't be read.
        mtime_ns: time of the file's last change in ns; None if it couldn't be read.
        settings: digest of the model and the settings.
        timeline: path of its timeline; empty if none was requested.
        page: path of its report; empty if none was requested.
    """

    size: int | None
    mtime_ns: int | None
    settings: str
    timeline: str = ""
    page: str = ""

    @property
    def whole(self) -> bool:
        """True if the timeline and the report of the row exist, as far as they were requested."""
        return all(Path(place).is_file() for place in (self.timeline, self.page) if place)


class Journal:
    """Journal of a table, which is locked until it is closed.

    Args:
        table: path of the table.
        force: discard an existing journal or other file in its place.

    Attributes:
        entries: row and stamp of each file, by path; timelines remain on disk.

    Raises:
        OutputError: the journal can't be written, another scan holds its lock, or another file is in its place.
    """

    def __init__(self, table: Path, *, force: bool = False) -> None:
        self.entries: dict[str, tuple[BatchRow, Stamp]] = {}
        self._path = _beside(table, ".journal")
        self._state = _beside(table, ".state.jsonl")
        self._lock = _locked(table)
        self._database: sqlite3.Connection | None = None
        try:
            with self._translated(OTHER_PATH):
                if force:
                    _remove(self._path)
                    if self._read_state() is not None:
                        self._state.unlink()
                self.check(table, force=force, locked=True)
                self._load()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def check(table: Path, *, force: bool = False, locked: bool = False) -> None:
        """Check, without changing anything, that the journal of a table could be opened.

        Args:
            table: path of the table.
            force: allow other files in its place to be replaced.
            locked: True if this process holds the lock.

        Raises:
            OutputError: the journal couldn't be opened.
        """
        if not locked and _beside(table, ".journal.lock").exists():
            _unlock(_locked(table))
        path = _beside(table, ".journal")
        if not is_database(existing(path, 100) or b"", _APPLICATION_ID, _VERSION) and not force:
            raise not_ours(path, "journal")

    def add(self, row: BatchRow, stamp: Stamp, timeline: Sequence[TimelineRow] = ()) -> None:
        """Store a row on disk.

        Raises:
            OutputError: the row can't be written; earlier rows remain.
        """
        with self._translated("The rows before it are kept. Make room, and run the same command again to go on."):
            assert self._database is not None
            self._database.execute(_PUT, _fields(row, stamp, timeline))
        self.entries[row.path] = row, stamp

    def timeline(self, video: str) -> list[TimelineRow]:
        """Return the timeline of a stored row; empty if there is none.

        Raises:
            OutputError: the timeline can't be read.
        """
        with self._translated("Its disk may be failing; start over with --force."):
            assert self._database is not None
            (found,) = self._database.execute("SELECT timeline FROM rows WHERE path = ?", (_text(video),)).fetchone()
            return [TimelineRow(*values) for values in json.loads(found)]

    def close(self) -> None:
        """Close the database and release the lock."""
        if self._database:
            self._database.close()
            self._database = None
        _unlock(self._lock)

    def _load(self) -> None:
        """Open the database and fill ``entries``; recover the readable rows of a damaged one."""
        try:
            database = self._connect()
            whole = database.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
            whole = False
        if not whole:
            database = self._rebuild()
        state = self._read_state()
        if state is not None:
            if not database.execute("SELECT 1 FROM rows LIMIT 1").fetchall():
                _put(database, state)
            self._state.unlink()
        for row_text, stamp_text in database.execute("SELECT row, stamp FROM rows ORDER BY rowid"):
            with suppress(ValueError, TypeError):  # the file of an unreadable row is scanned again
                row = BatchRow(*json.loads(row_text))
                self.entries[row.path] = row, Stamp(**json.loads(stamp_text))

    def _connect(self) -> sqlite3.Connection:
        database = self._database = sqlite3.connect(self._path, isolation_level=None)
        # The file lock keeps others out. Without them, the write-ahead log needs no shared memory, which network
        # drives don't have, and costs one flush of the disk a row.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        if database.execute("PRAGMA user_version").fetchone() == (0,):
            database.execute("BEGIN IMMEDIATE")  # a crash leaves an empty file, or one that is known as ours
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
            database.execute("CREATE TABLE rows (path TEXT PRIMARY KEY, row TEXT, stamp TEXT, timeline TEXT)")
            database.execute("COMMIT")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        return database

    def _rebuild(self) -> sqlite3.Connection:
        """Copy the readable rows of a damaged database to a new one."""
        found: list[_Fields] = []
        if self._database:
            self._database.close()
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(self._path)) as damaged:
            damaged.execute("PRAGMA writable_schema = ON")  # else a file that has lost its end isn't read at all
            for fields in damaged.execute("SELECT path, row, stamp, timeline FROM rows ORDER BY rowid"):
                with suppress(ValueError, TypeError):
                    found.append((fields, [json.loads(field) for field in fields])[0])
        _remove(self._path)
        database = self._connect()
        _put(database, found)
        return database

    def _read_state(self) -> list[_Fields] | None:
        """Read the state file of an earlier version; return None if there is none."""
        content = existing(self._state)
        if not content or not content.startswith(_STATE_HEADER):
            return None
        found: list[_Fields] = []
        for line in content.split(b"\n")[1:-1]:
            with suppress(ValueError, KeyError, TypeError):
                fields = json.loads(line)
                stamp = Stamp(*(fields[name] for name in Stamp.__slots__))
                found.append(_fields(BatchRow(*fields["row"]), stamp, fields.get("faces", ())))
        return found

    @contextmanager
    def _translated(self, advice: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(f"can't be written: {error}", path=self._path, advice=advice) from error
        except (ValueError, TypeError) as error:
            raise OutputError("can't be read back", path=self._path, advice=advice) from error
        except OSError as error:
            raise unwritable(self._path, error, advice=advice) from error


def _put(database: sqlite3.Connection, found: Iterable[_Fields]) -> None:
    database.execute("BEGIN")
    database.executemany(_PUT, found)
    database.execute("COMMIT")


def _text(value: object) -> str:
    # ASCII, so that bytes of a path that aren't UTF-8 are restored exactly.
    return json.dumps(value, separators=(",", ":"))


def _fields(row: BatchRow, stamp: Stamp, timeline: Sequence[Sequence[object]]) -> _Fields:
    return _text(row.path), _text(row), _text(asdict(stamp)), _text(timeline)


def _beside(table: Path, ending: str) -> Path:
    """Return the path of a file beside a table; a link to a table and the table itself share it."""
    real = Path(os.path.realpath(table))
    return real.with_name(real.name + ending)


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _locked(table: Path) -> BaseFileLock:
    """Acquire the lock of a table, which the operating system releases when the process ends.

    Raises:
        OutputError: another scan holds the lock, or it can't be created.
    """
    path = _beside(table, ".journal.lock")
    try:
        lock = try_lock(path)
    except OSError as error:
        raise unwritable(path, error, advice=OTHER_PATH) from error
    if lock is None:
        raise OutputError(
            "another scan is writing these results",
            path=table,
            advice="Wait for it to end, or choose another path with -o.",
        )
    return lock


def _unlock(lock: BaseFileLock) -> None:
    with suppress(OSError):  # while it is held: a waiting process notices. Windows removes no open file.
        Path(lock.lock_file).unlink()
    lock.release()


def check_batch_target(path: str | PathLike[str], videos: Collection[str], *, force: bool = False) -> None:
    """Check in advance, without side effects, that results can be written.

    Results of an earlier run are resumed. Other files, and results without any of these videos, may be replaced only
    with ``force``.

    Raises:
        OutputError: the path isn't writable, holds another file, or another scan is writing to it.
        UsageError: the format of this suffix isn't supported, or a package is missing.
    """
    _check(Path(path), _table(Path(path)), videos, force=force)


class BatchTable:
    """Resumable table of results; a context manager. The suffix of the path selects the format (``tables``).

    On entry, rows of an earlier run are kept if their stamp is unchanged and dropped otherwise, and an incomplete table
    is repaired. Rows of errors are kept, but their files are scanned again. Each row is on disk when ``write`` returns.
    On exit without an error the rows are in the order of the candidates; before, they may be in the order of writing.
    Devices and pipes get all rows one after another, without a journal.

    Args:
        path: path of the table.
        candidates: stamp of every file of the batch, in the order of the rows.
        force: discard an earlier table, or replace another file.

    Attributes:
        kept: rows of files that needn't be scanned again, by path; set on entry, like the following ones.
        retried: number of rows with errors, whose files are scanned again.
        stale: number of candidates whose row was dropped because its stamp has changed.
        gone: number of earlier rows of files that aren't candidates.
        forgotten: True if no row was kept because the journal of an existing table is missing.

    Raises:
        OutputError: on entry, the table can't be written, as for ``check_batch_target``; on ``write``, the row can't be
            written (earlier rows remain); on exit, the rows can't be ordered.
        UsageError: the format of this suffix isn't supported, or a package is missing.
    """

    def __init__(self, path: str | PathLike[str], candidates: Mapping[str, Stamp], *, force: bool = False) -> None:
        self.kept: dict[str, BatchRow] = {}
        self.retried = 0
        self.stale = 0
        self.gone = 0
        self.forgotten = False
        self._path = Path(path)
        self._candidates = candidates
        self._force = force
        self._table = _table(self._path)
        self._names = self._table.names(candidates)
        self._journal: Journal | None = None
        self._open = False
        self._written: set[str] = set()

    def __enter__(self) -> Self:
        earlier = _check(self._path, self._table, self._candidates, force=self._force)
        try:
            if not is_special(self._path):
                self._journal = Journal(self._path, force=self._force)
                self._resume(self._journal, earlier)
                _part(self._path).unlink(missing_ok=True)
            self._table.settle(self._records())
            self._open = True
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._table.settle(self._records())
            elif self._table.lags:
                with suppress(OutputError):  # the rows are safe in the journal, and there is an error already
                    self._table.settle(self._records())
        finally:
            self._close()

    def write(self, result: VideoResult) -> None:
        """Add or replace the row of one candidate."""
        if not self._open:
            raise ValueError("a BatchTable takes rows only inside its with block")
        row = batch_row(result)
        if self._journal:
            timeline = [timeline_row(score) for score in result.timeline] if self._table.holds_timelines else []
            self._journal.add(row, self._candidates[row.path], timeline)
        replaces = row.path in self._written
        self._written.add(row.path)
        self._table.append(self._record(row), self._records, replaces=replaces)

    def _resume(self, journal: Journal, earlier: Sequence[str]) -> None:
        """Decide which rows of an earlier run are kept.

        Args:
            journal: journal with those rows.
            earlier: names in the table.
        """
        self.forgotten = bool(earlier) and not journal.entries
        for video, stamp in self._candidates.items():
            row, written = journal.entries.get(video, (None, None))
            if row is None or written != stamp:
                continue
            if row.status == Status.ERROR:
                self.retried += 1
            elif stamp.whole:
                self.kept[video] = row
            else:
                continue
            self._written.add(video)
        staying = {self._names[video] for video in self._written}
        candidates = set(self._names.values())
        self.gone = sum(name not in candidates for name in earlier)
        self.stale = sum(name in candidates and name not in staying for name in earlier)

    def _records(self) -> list[Record]:
        """Return the complete content of the table, in the order of the candidates."""
        if self._journal is None:
            return []
        rows = self._journal.entries
        return [self._record(rows[video][0]) for video in self._candidates if video in self._written]

    def _record(self, row: BatchRow) -> Record:
        journal = self._journal
        return Record(self._names[row.path], row, lambda: journal.timeline(row.path) if journal else [])

    def _close(self) -> None:
        self._open = False
        self._table.close()
        if self._journal:
            self._journal.close()
            self._journal = None


def _table(path: Path) -> Table:
    return open_table(path, _part(path))


def _part(path: Path) -> Path:
    # A fixed name, so that crashes can't leave many files; the lock allows only one process to write it.
    return _beside(path, ".journal.part")


def _check(path: Path, table: Table, videos: Collection[str], *, force: bool) -> list[str]:
    """Check the target, and return the names in the existing table."""
    special = is_special(path)
    if not special:
        Journal.check(path, force=force)
    earlier = table.earlier(force=force)
    known = set(table.names(videos).values())
    if earlier and not any(name in known for name in earlier):
        raise OutputError(
            "already holds results of other videos",
            path=path,
            advice="Choose another path with -o, or replace it with --force.",
        )
    if not special:
        check_folder(path, advice=OTHER_PATH)
    return earlier
