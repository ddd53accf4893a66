"""The results of many files as a table: one row a file, on disk as soon as it is known, and kept by the next run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from torchfakes_cli.errors import OutputError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.batch.formats import open_format
from torchfakes_cli.report.batch.row import BatchRow, batch_row
from torchfakes_cli.report.batch.state import BatchState, Stamp, state_path
from torchfakes_cli.report.batch.table_file import OTHER_PATH, Record, TableFile
from torchfakes_cli.report.files import check_folder, is_special
from torchfakes_cli.report.timeline_row import timeline_row


def check_batch_target(path: str | PathLike[str], videos: Collection[str], *, force: bool = False) -> None:
    """Finds out before a scan, without leaving anything behind, whether its results can be written.

    Results of an earlier run are gone on with; any other file is replaced only with ``force``, and so are results that
    have not one video in common with these.

    Raises:
        OutputError: the place can't be written, is taken by something else, or another scan is writing there.
        UsageError: the ending is that of a format that isn't written, or a package is missing.
    """
    _check(Path(path), _file(Path(path)), videos, force=force)


class BatchTable:
    """A sink for results, used as a context manager; the ending of the path tells the format (see ``formats``).

    On entering, rows of an earlier run stay where their file, the model and the settings are as they were then, and the
    others are dropped; what a crash left half done is repaired. Rows of errors stay too, but their files are to be
    scanned again. Then every row is safe on the disk when ``write`` returns. On leaving without an error rows are in
    the order of the candidates, before that maybe in the order of writing. See ``state`` for how that survives a crash
    at any moment. A device or a pipe just gets all rows one after another.

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
        self._file = _file(self._path)
        self._names = self._file.names(candidates)
        self._positions = {video: position for position, video in enumerate(candidates)}
        self._state: BatchState | None = None
        self._open = False
        self._written: set[str] = set()

    def __enter__(self) -> Self:
        _check(self._path, self._file, self._candidates, force=self._force)
        try:
            if not is_special(self._path):
                self._state = BatchState(state_path(self._path), force=self._force)
                self._take_up(self._state)
                _part(self._path).unlink(missing_ok=True)
            self._file.settle(self._records())
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
                self._file.settle(self._records())
            elif self._file.lags:
                with suppress(OutputError):  # the rows are safe beside it, and there is an error already
                    self._file.settle(self._records())
        finally:
            self._close()

    def write(self, result: VideoResult) -> None:
        """Adds the row of one candidate, or replaces it if there is one."""
        if not self._open:
            raise ValueError("a BatchTable takes rows only inside its with block")
        row = batch_row(result)
        if self._state:
            timeline = [timeline_row(score) for score in result.timeline] if self._file.holds_timelines else []
            self._state.add(row, self._candidates[row.path], timeline)
        replaces = row.path in self._written
        self._written.add(row.path)
        self._file.write(self._record(row), self._records, replaces=replaces)

    def _take_up(self, state: BatchState) -> None:
        """Decides which rows of an earlier run stay."""
        earlier = self._file.earlier(force=self._force)
        self.forgotten = bool(earlier) and not state.entries
        for video, stamp in self._candidates.items():
            entry = state.entries.get(video)
            if entry is None or entry.stamp != stamp:
                continue
            if entry.row.status == Status.ERROR:
                self.retried += 1
            elif stamp.whole:
                self.kept[video] = entry.row
            else:
                continue
            self._written.add(video)
        staying = {self._names[video] for video in self._written}
        candidates = set(self._names.values())
        self.gone = sum(name not in candidates for name in earlier)
        self.stale = sum(name in candidates and name not in staying for name in earlier)

    def _records(self) -> list[Record]:
        """Everything that the table is to hold, in the order of the candidates."""
        if self._state is None:
            return []
        rows = self._state.entries
        return [self._record(rows[video].row) for video in self._candidates if video in self._written]

    def _record(self, row: BatchRow) -> Record:
        state = self._state
        entry = state.entries[row.path] if state else None
        return Record(
            position=self._positions[row.path],
            name=self._names[row.path],
            row=row,
            faces=entry.faces if entry else 0,
            timeline=lambda: state.timeline(row.path) if state else [],
        )

    def _close(self) -> None:
        self._open = False
        self._file.close()
        if self._state:
            self._state.close()
            self._state = None


def _file(path: Path) -> TableFile:
    return open_format(path, _part(path))


def _part(path: Path) -> Path:
    # Always the same, for the lock lets one alone write it: so a crash can't leave more and more of them.
    return state_path(path).with_suffix(".part")


def _check(path: Path, file: TableFile, videos: Collection[str], *, force: bool) -> None:
    if not is_special(path):
        BatchState.check(state_path(path), force=force)
    earlier = file.earlier(force=force)
    known = set(file.names(videos).values())
    if earlier and not any(name in known for name in earlier):
        raise OutputError(
            "already holds results of other videos",
            path=path,
            advice="Choose another path with -o, or replace it with --force.",
        )
    if not is_special(path):
        check_folder(path, advice=OTHER_PATH)
