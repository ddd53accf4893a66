"""The resumable store of a batch: every row is safe in a journal before it goes into the table of results.

Beside ``results.csv``, or a table of any other format, is ``results.csv.journal``, an SQLite database with a row a
file: the row itself with the path exactly as given, what it depends on (``Stamp``), and its timeline where the table
holds timelines. Whatever a crash leaves of the table, it is made again from there, and the same command, run again,
scans only what is missing. Without the journal (deleted, or not copied along) everything is scanned again. What earlier
versions left beside a table, ``results.csv.state.jsonl``, is taken over once.
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
#: The database is damaged, not merely unwritable just now.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_PUT = "INSERT OR REPLACE INTO rows (path, row, stamp, timeline) VALUES (?, ?, ?, ?)"
_Fields = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a row depends on besides the path: while it is the same, so would be the row.

    Attributes:
        size: of the file in bytes; None where it couldn't be read.
        mtime_ns: when the file was last changed; None where it couldn't be read.
        settings: digest of the model and the settings.
        timeline: where its timeline was to go; empty where none was wanted.
        page: where its report was to go; empty where none was wanted.
    """

    size: int | None
    mtime_ns: int | None
    settings: str
    timeline: str = ""
    page: str = ""

    @property
    def whole(self) -> bool:
        """Whether the files that belong to the row are there."""
        return all(Path(place).is_file() for place in (self.timeline, self.page) if place)


class Journal:
    """The journal of a table, open and locked until it is closed.

    Args:
        table: path of the table.
        force: forget what is in it, whatever it is.

    Attributes:
        entries: each row and its stamp, by path; timelines stay on the disk.

    Raises:
        OutputError: it can't be written, another scan holds it, or something else is in its place.
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
            force: whatever is in the place may be replaced.
            locked: this process holds the lock.

        Raises:
            OutputError: as on opening.
        """
        if not locked and _beside(table, ".journal.lock").exists():
            _unlock(_locked(table))
        path = _beside(table, ".journal")
        if not is_database(existing(path, 100) or b"", _APPLICATION_ID, _VERSION) and not force:
            raise not_ours(path, "journal")

    def add(self, row: BatchRow, stamp: Stamp, timeline: Sequence[TimelineRow] = ()) -> None:
        """Store a row; it is on the disk when this returns.

        Raises:
            OutputError: it can't be written; what was there before still is.
        """
        with self._translated("The rows before it are kept. Make room, and run the same command again to go on."):
            assert self._database is not None
            self._database.execute(_PUT, _fields(row, stamp, timeline))
        self.entries[row.path] = row, stamp

    def timeline(self, video: str) -> list[TimelineRow]:
        """The timeline of a stored row; empty where there is none.

        Raises:
            OutputError: it can't be read back.
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
        """Open the database and fill ``entries``; of a damaged one, keep the rows that can be read."""
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
            with suppress(ValueError, TypeError):  # an unreadable row is as good as missing: its file is scanned again
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
        """Put what can be read of a damaged database into a new one."""
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
        """What an earlier version left beside the table; None where there is nothing of ours."""
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
    # ASCII whatever a path holds: bytes that are no UTF-8 come back as they were.
    return json.dumps(value, separators=(",", ":"))


def _fields(row: BatchRow, stamp: Stamp, timeline: Sequence[Sequence[object]]) -> _Fields:
    return _text(row.path), _text(row), _text(asdict(stamp)), _text(timeline)


def _beside(table: Path, ending: str) -> Path:
    """A file beside a table; a link to a table and the table itself share it."""
    real = Path(os.path.realpath(table))
    return real.with_name(real.name + ending)


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _locked(table: Path) -> BaseFileLock:
    """The lock on a table, acquired; the operating system releases it with the process.

    Raises:
        OutputError: another scan holds it, or it can't be made.
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
    """Check before a scan, without leaving anything behind, that its results can be written.

    Results of an earlier run are continued; any other file is replaced only with ``force``, and so are results that
    have not one video in common with these.

    Raises:
        OutputError: the place can't be written, is taken by something else, or another scan is writing there.
        UsageError: the ending is that of a format that isn't written, or a package is missing.
    """
    _check(Path(path), _table(Path(path)), videos, force=force)


class BatchTable:
    """A sink for results, used as a context manager; the ending of the path selects the format (see ``tables``).

    On entering, rows of an earlier run stay where their file, the model and the settings are as they were then, and the
    others are dropped; what a crash left half done is repaired. Rows of errors stay too, but their files are to be
    scanned again. Then every row is safe on the disk when ``write`` returns. On leaving without an error rows are in
    the order of the candidates, before that maybe in the order of writing. A device or a pipe gets all rows one after
    another, without a journal.

    Args:
        path: where to write.
        candidates: every file of the batch, in the order its row is to have, and what its row depends on.
        force: start over, and replace whatever is there.

    Attributes:
        kept: after entering: the rows, by path, of files that needn't be scanned again.
        retried: after entering: the number of rows that are errors and to be tried again.
        stale: after entering: the number of candidates whose row is gone, because something it depends on changed.
        gone: after entering: the number of earlier rows of files that are no candidates now.
        forgotten: after entering: there were rows, but nothing that tells what they depend on, so none was kept.

    Raises:
        OutputError: on entering, see ``check_batch_target``; on ``write``, the row couldn't be written (the rows
            before it stay); on leaving, the table couldn't be put in order.
        UsageError: see ``check_batch_target``.
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
        """Add the row of one candidate, or replace it if there is one."""
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
        """Decide which rows of an earlier run stay.

        Args:
            journal: with those rows.
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
        """Everything that the table is to hold, in the order of the candidates."""
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
    # Always the same name, for the lock lets one process alone write it: crashes can't leave more and more of them.
    return _beside(path, ".journal.part")


def _check(path: Path, table: Table, videos: Collection[str], *, force: bool) -> list[str]:
    """Check the target, and give the names that are in the table now."""
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
