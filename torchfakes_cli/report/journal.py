"""Resumable tables: every row is stored in a journal before it is written to the table of results.

Beside ``results.csv``, or a table of any other format, is ``results.csv.journal``, an SQLite database with one entry
per file: its row with the path exactly as given, its ``Stamp``, and its timeline if the table has timelines. After a
crash the table is restored from the journal, and a repeated command scans only the missing files. Without the journal
(deleted, or not copied) the rows of the table stay, and their files are scanned again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import check_folder, existing, is_special, try_lock, unwritable
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.columns import BatchRow, TimelineRow, batch_row, timeline_row
from torchfakes_cli.report.csv import OTHER_PATH, ROWS_KEPT, LineTable, distinct_names
from torchfakes_cli.report.formatting import escape_undecodable
from torchfakes_cli.report.tables import SqliteTable, Table, is_database, open_table

_APPLICATION_ID = 0x74666A6E  # "tfjn"
_VERSION = 1
#: SQLite errors of a damaged database, as opposed to one that is temporarily not writable.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_PUT = "INSERT OR REPLACE INTO rows (path, row, stamp, timeline) VALUES (?, ?, ?, ?)"
#: Seconds between two versions of a table that is written whole; more where writing takes long (_SHARE of the time).
_EVERY_S = 10.0
_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Stamp:
    """Everything besides the path that a row depends on; a row is reused while its stamp is unchanged.

    Attributes:
        size: size of the file in bytes; None if it couldn't be read.
        mtime_ns: time of the file's last change in ns; None if it couldn't be read.
        settings: digest of the model and the settings.
        timeline: path of its timeline; empty if none was requested.
        page: path of its report; empty if none was requested.
        file: absolute path of the file, which tells files of the same relative path apart; empty if unknown.
        frames: path of its saved frames, without their ending; empty if none were requested.
    """

    size: int | None
    mtime_ns: int | None
    settings: str
    timeline: str = ""
    page: str = ""
    file: str = field(default="", compare=False)
    frames: str = ""

    def covers(self, wanted: Stamp) -> bool:
        """True if a row with this stamp can be reused: nothing has changed, and the outputs wanted exist."""
        return (
            (self.size, self.mtime_ns, self.settings) == (wanted.size, wanted.mtime_ns, wanted.settings)
            and wanted.frames in ("", self.frames)
            and all(
                not new or (new == old and Path(new).is_file())
                for old, new in ((self.timeline, wanted.timeline), (self.page, wanted.page))
            )
        )


class Journal:
    """Journal of a table, whose lock the caller holds; all methods raise ``OutputError`` if it can't be written.

    Attributes:
        entries: row and stamp of each file, by path; timelines remain on disk.
    """

    def __init__(self, path: Path) -> None:
        self.entries: dict[str, tuple[BatchRow, Stamp]] = {}
        self._path = path
        self._database: sqlite3.Connection | None = None

    def open(self, *, force: bool = False) -> None:
        """Open the database and fill ``entries``; a damaged one is replaced, because the table has its rows.

        With ``force`` an existing journal, or another file in its place, is discarded.
        """
        with _translated(self._path, OTHER_PATH):
            if force:
                _remove(self._path)
            try:
                database = self._connect()
                whole = database.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                    raise
                whole = False
            if not whole:
                self.close()
                _remove(self._path)
                database = self._connect()
            for row_text, stamp_text in database.execute("SELECT row, stamp FROM rows ORDER BY rowid"):
                with suppress(ValueError, TypeError):  # the file of an unreadable row is scanned again
                    row = BatchRow(*json.loads(row_text))
                    self.entries[row.path] = row, Stamp(**json.loads(stamp_text))

    def add(self, row: BatchRow, stamp: Stamp, timeline: Sequence[TimelineRow] = ()) -> None:
        """Store a row on disk."""
        self._execute(_PUT, row.path, row, asdict(stamp), timeline)
        self.entries[row.path] = row, stamp

    def remove(self, videos: Iterable[str]) -> None:
        """Remove rows."""
        for video in videos:
            self._execute("DELETE FROM rows WHERE path = ?", video)
            del self.entries[video]

    def timeline(self, video: str) -> list[TimelineRow]:
        """Return the timeline of a stored row; empty if there is none."""
        (text,) = self._execute("SELECT timeline FROM rows WHERE path = ?", video).fetchone()
        return [TimelineRow(*values) for values in json.loads(text)]

    def close(self) -> None:
        """Close the database."""
        if self._database:
            self._database.close()
            self._database = None

    def _connect(self) -> sqlite3.Connection:
        database = self._database = sqlite3.connect(self._path, isolation_level=None)
        # The file lock keeps other processes out. Without them, the write-ahead log needs no shared memory, which
        # network drives don't have, and costs one flush of the disk a row.
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

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        assert self._database is not None, "the journal is open"
        # JSON in ASCII, so that bytes of a path that aren't UTF-8 are restored exactly.
        texts = [json.dumps(value, separators=(",", ":")) for value in values]
        with _translated(self._path, ROWS_KEPT):
            return self._database.execute(statement, texts)


@contextmanager
def _translated(path: Path, advice: str) -> Iterator[None]:
    """Raise errors of the disk and of SQLite as ``OutputError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"can't be written: {error}", path=path, advice=advice) from error
    except OSError as error:
        raise unwritable(path, error, advice=advice) from error


def _beside(table: Path, ending: str) -> Path:
    """Return the path of a file beside a table; a link to a table and the table itself share it."""
    real = Path(os.path.realpath(table))
    return real.with_name(real.name + ending)


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


@contextmanager
def _locked(table: Path) -> Iterator[None]:
    """Hold the lock of a table, which the operating system releases when the process ends."""
    path = _beside(table, ".journal.lock")
    with _translated(path, OTHER_PATH):
        lock = try_lock(path)
    if lock is None:
        raise OutputError(
            "another scan is writing these results",
            path=table,
            advice="Wait for it to end, or choose another path with -o.",
        )
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: a waiting process notices. Windows removes no open file.
            path.unlink()
        lock.release()


def check_batch_target(path: str | PathLike[str], *, force: bool = False) -> None:
    """Check in advance, without side effects, that results can be written.

    Rows are added to results of an earlier run; other files may be replaced only with ``force``.

    Raises:
        OutputError: the path isn't writable, holds another file, or another scan is writing to it.
        UsageError: the format of this suffix isn't supported, or a package is missing.
    """
    target = Path(path)
    if not is_special(target) and _beside(target, ".journal.lock").exists():
        with _locked(target):
            pass
    _earlier(target, open_table(target), force=force)


def _earlier(path: Path, table: Table, *, force: bool) -> list[BatchRow]:
    """Check the target, and return the rows in the existing table; none with ``force``."""
    if is_special(path):
        if not isinstance(table, LineTable):
            raise OutputError("this format can't go to a device or a pipe", path=path, advice=OTHER_PATH)
        return []
    journal = _beside(path, ".journal")
    if not force and not is_database(existing(journal, 100) or b"", _APPLICATION_ID, _VERSION):
        raise _not_ours(journal, "journal")
    rows = table.read() if existing(path, 1) and not force else []
    if rows is None:
        raise _not_ours(path, "results")
    check_folder(path, advice=OTHER_PATH)
    return rows


def _not_ours(path: Path, kind: str) -> OutputError:
    advice = "Choose another path with -o, or replace it with --force."
    return OutputError(f"exists and holds no {kind} of torchfakes", path=path, advice=advice)


class BatchTable:
    """Resumable table of results, to which each run adds; a context manager.

    The suffix of the path selects the format (``tables``). On entry an incomplete table is repaired. Rows of an earlier
    run stay: those of other files for good, those of candidates until the file is scanned again. Each row is on disk
    when ``write`` returns: in the journal, and in a table of lines unless it replaces an earlier one; otherwise the
    table follows every ten seconds or more. On exit without an error the candidates' rows are in the order of the
    candidates, after those of other files. Devices and pipes get all rows one after another, without a journal.

    Args:
        path: path of the table.
        candidates: stamp of every file of the batch, in the order of the rows.
        force: discard an earlier table, or replace another file.
        prune: remove the rows of files that are gone, unless all are. Files of remote stores stay.

    Attributes:
        kept: rows of candidates that needn't be scanned again, by path; set on entry, like the following ones.
        retried: number of candidates whose row is an error; they are scanned again.
        stale: number of candidates whose row has another stamp; they are scanned again.
        others: number of rows of other files.
        pruned: number of rows removed by ``prune``.

    Raises:
        OutputError: a row can't be written (earlier ones remain). On entry also as for ``check_batch_target``, and if
            the table has a row of another file with the path of a candidate, or would be emptied by ``prune``.
        UsageError: the format of this suffix isn't supported, or a package is missing.
    """

    def __init__(
        self, path: str | PathLike[str], candidates: Mapping[str, Stamp], *, force: bool = False, prune: bool = False
    ) -> None:
        self.kept: dict[str, BatchRow] = {}
        self.retried = self.stale = self.others = self.pruned = 0
        self._path = Path(path)
        self._candidates = candidates
        self._force = force
        self._prune = prune
        self._table = open_table(self._path)
        self._lines = self._table if isinstance(self._table, LineTable) else None
        self._lags = False  # some rows aren't in the file yet
        self._next_s = 0.0  # time of the next version of a table that is written whole
        self._journal: Journal | None = None
        self._names = distinct_names(candidates)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            special = is_special(self._path)
            if not special:
                stack.enter_context(_locked(self._path))
            earlier = _earlier(self._path, self._table, force=self._force)
            if self._lines:
                stack.callback(self._lines.close)
            if not special:
                self._journal = stack.enter_context(closing(Journal(_beside(self._path, ".journal"))))
                self._journal.open(force=self._force)
                self._resume(self._journal, earlier)
                _beside(self._path, ".journal.part").unlink(missing_ok=True)
                self._settle()
            elif self._lines:
                self._lines.append(self._lines.header)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._settle()
            elif self._lags:
                with suppress(OutputError):  # the rows are safe in the journal, and there is an error already
                    self._settle()

    def write(self, result: VideoResult) -> None:
        """Add or replace the row of one candidate."""
        row = batch_row(result)
        replaces = False
        if self._journal:
            replaces = row.path in self._journal.entries
            faces = result.timeline if isinstance(self._table, SqliteTable) else ()
            self._journal.add(row, self._candidates[row.path], [timeline_row(face) for face in faces])
        if self._lines and not replaces:
            self._lines.append(self._lines.line(self._shown(row)))
            return
        self._lags = True
        if time.monotonic() >= self._next_s:
            with suppress(OutputError):  # it is tried again later
                self._settle()

    def _resume(self, journal: Journal, earlier: Sequence[BatchRow]) -> None:
        """Complete the journal with the rows of the earlier table, and decide which files needn't be scanned."""
        if not os.path.lexists(self._path):  # the user removed it, and with it the rows of other files
            journal.remove([video for video in journal.entries if video not in self._candidates])
        self._adopt(journal, earlier)
        if self._prune:
            gone = [
                video
                for video, (_, stamp) in journal.entries.items()
                if "://" not in video and not os.path.lexists(stamp.file or video)
            ]
            if gone and len(gone) == len(journal.entries):
                raise OutputError(
                    f"--prune would remove all of its {len(gone)} rows",
                    path=self._path,
                    advice="Connect the drive of the videos, or start the table over with --force.",
                )
            journal.remove(gone)
            self.pruned = len(gone)
        self._rename(journal)
        for video, stamp in self._candidates.items():
            if video not in journal.entries:
                continue
            row, written = journal.entries[video]
            _refuse_another(self._path, video, written, stamp)
            if not written.covers(stamp):
                self.stale += 1
            elif row.status == Status.ERROR:
                self.retried += 1
            else:
                self.kept[video] = row
        self.others = sum(video not in self._candidates for video in journal.entries)
        self._names = distinct_names({**journal.entries, **self._candidates})

    def _rename(self, journal: Journal) -> None:
        """Give a row of a file that is now given by another path (relative, absolute) that path."""
        names = {stamp.file: video for video, stamp in self._candidates.items()}
        for video, (row, written) in list(journal.entries.items()):
            name = names.get(written.file)
            if written.file and name and video not in self._candidates:
                if name not in journal.entries:
                    journal.add(row._replace(path=name), written, journal.timeline(video))
                journal.remove([video])

    def _adopt(self, journal: Journal, earlier: Sequence[BatchRow]) -> None:
        """Take over rows of the table that the journal lacks, because it was lost."""
        paths = {name: path for path, name in distinct_names({**journal.entries, **self._candidates}).items()}
        missing = [(row, path) for row in earlier if (path := paths.get(row.path, row.path)) not in journal.entries]
        timelines = self._table.timelines() if missing and isinstance(self._table, SqliteTable) else {}
        for row, path in missing:
            journal.add(row._replace(path=path), Stamp(None, None, "unknown"), timelines.get(row.path, []))
        self._lags = bool(missing)  # an earlier version may have written fewer columns

    def _shown(self, row: BatchRow) -> BatchRow:
        """Return a row as it stands in the table: with encodable text and a distinct path."""
        row = row._replace(path=self._names[row.path])
        return BatchRow._make(escape_undecodable(value) if isinstance(value, str) else value for value in row)

    def _holds(self, rows: list[BatchRow]) -> bool:
        return self._lines.holds(rows) if self._lines else self._table.read() == rows

    def _settle(self) -> None:
        """Make the table hold exactly the rows of the journal, in their final order; readers keep the old version."""
        if (journal := self._journal) is None:
            return  # a device or a pipe
        entries = journal.entries
        order = [*(video for video in entries if video not in self._candidates), *self._candidates]
        videos = [video for video in order if video in entries]
        rows = [self._shown(entries[video][0]) for video in videos]
        if not self._lags and existing(self._path, 1) and self._holds(rows):
            return
        started = time.monotonic()
        if self._lines:
            self._lines.close()  # Windows replaces no open file
        # A fixed name, so that crashes can't leave many files; the lock allows only one process to write it.
        part = _beside(self._path, ".journal.part")
        try:
            with _translated(self._path, ROWS_KEPT):
                self._table.write(part, rows, map(journal.timeline, videos))
                with part.open("r+b") as file:
                    os.fsync(file.fileno())
                part.replace(os.path.realpath(self._path))
                self._lags = False
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            ended = time.monotonic()
            self._next_s = ended + max(_EVERY_S, (ended - started) / _SHARE)


def _refuse_another(table: Path, video: str, old: Stamp, new: Stamp) -> None:
    """Refuse to replace the row of another file: the same relative path in another folder, which still exists."""
    differ = (old.size, old.mtime_ns) != (new.size, new.mtime_ns)
    if differ and old.file not in ("", new.file) and os.path.lexists(old.file):
        raise OutputError(
            f"already has a row of another file called {video}: {old.file}",
            path=table,
            advice="Give the files with their full paths, or choose another table with -o.",
        )
