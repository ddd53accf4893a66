"""The results of many files as CSV: one row a file, on disk as soon as it is known, and kept by the next run."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from contextlib import suppress
from io import FileIO
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from torchfakes_cli.errors import OutputError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.batch_state import BatchState, Entry, Stamp, state_path
from torchfakes_cli.report.cells import RATE_DIGITS, SCORE_DIGITS, TIME_DIGITS, csv_line, number_cell, text_cell
from torchfakes_cli.report.files import append, check_folder, is_special, unwritable, write_whole

BATCH_COLUMNS = (
    "path",
    "status",
    "verdict",
    "p_fake",
    "reason",
    "duration_s",
    "width",
    "height",
    "fps",
    "frames_sampled",
    "faces_scored",
    "faces_blurry",
    "tracks",
    "peak_time_s",
    "elapsed_s",
    "model",
    "error",
)
_HEADER = csv_line(BATCH_COLUMNS)
_ELSEWHERE = "Choose another path with -o, or replace it with --force."


def check_batch_target(path: str | PathLike[str], videos: Collection[str], *, force: bool = False) -> None:
    """Finds out before a scan, without leaving anything behind, whether its results can be written.

    Results of an earlier run are gone on with; any other file is replaced only with ``force``, and so are results that
    have not one video in common with these.

    Raises:
        OutputError: the place can't be written, is taken by something else, or another scan is writing there.
    """
    target = Path(path)
    if is_special(target):
        return
    content = _read(target)
    BatchState.check(state_path(target), force=force)
    if not force:
        _check_ours(target, content, videos)
    check_folder(target, advice="Choose another path with -o.")


class BatchCsv:
    """A sink for results, used as a context manager.

    On entering, rows of an earlier run stay where their file, the model and the settings are as they were then, and the
    others are dropped; half a row that a crash left is repaired. Rows of errors stay too, but their files are to be
    scanned again. Then every row is on the disk when ``write`` returns. Rows come in the order of writing, and on
    leaving without an error in the order of the candidates. See ``batch_state`` for how that survives a crash at any
    moment. A device or a pipe just gets all rows one after another.

    Args:
        path: where to write.
        candidates: every file of the batch, in the order its row is to have, and what its row depends on.
        force: start over, and replace whatever is there.

    Attributes:
        kept: after entering: the rows, by path, of files that needn't be scanned again; cells by column.
        retried: after entering: the number of rows that are errors and to be tried again.
        stale: after entering: the number of candidates whose row is gone, because something it depends on changed.
        gone: after entering: the number of earlier rows of files that are no candidates now.
        forgotten: after entering: there were rows, but nothing that tells what they depend on, so none was kept.

    Raises:
        OutputError: on entering, see ``check_batch_target``; on ``write``, the row couldn't be written (the rows
            before it stay).
    """

    def __init__(self, path: str | PathLike[str], candidates: Mapping[str, Stamp], *, force: bool = False) -> None:
        self.kept: dict[str, dict[str, str]] = {}
        self.retried = 0
        self.stale = 0
        self.gone = 0
        self.forgotten = False
        self._path = Path(path)
        self._candidates = candidates
        self._force = force
        self._special = is_special(self._path)
        self._state: BatchState | None = None
        self._file: FileIO | None = None
        self._rows: dict[str, str] = {}

    def __enter__(self) -> Self:
        check_batch_target(self._path, self._candidates, force=self._force)
        try:
            if self._special:
                self._open()
                self._append(_HEADER)
            else:
                self._state = BatchState(state_path(self._path), force=self._force)
                self._take_up(self._state.entries)
                self._temporary().unlink(missing_ok=True)
                self._settle()
                self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._special:
                self._settle()
        finally:
            self._close()

    def write(self, result: VideoResult) -> None:
        """Adds the row of one candidate, or replaces it if there is one."""
        if self._file is None:
            raise ValueError("a BatchCsv takes rows only inside its with block")
        row = csv_line(_cells(result))
        if self._state:
            self._state.add(result.path, Entry(self._candidates[result.path], row))
        replaces = result.path in self._rows
        self._rows[result.path] = row
        if replaces and not self._special:
            self._settle()
            self._open()
        else:
            self._append(row)

    def _take_up(self, entries: Mapping[str, Entry]) -> None:
        """Decides which rows of an earlier run stay."""
        earlier = [] if self._force else _rows_of(_read(self._path))
        self.forgotten = bool(earlier) and not entries
        for video, stamp in self._candidates.items():
            entry = entries.get(video)
            if entry is None or entry.stamp != stamp:
                continue
            cells = dict(zip(BATCH_COLUMNS, next(csv.reader([entry.row])), strict=True))
            if cells["status"] == Status.ERROR:
                self.retried += 1
            elif stamp.whole:
                self.kept[video] = cells
            else:
                continue
            self._rows[video] = entry.row
        staying = {text_cell(video) for video in self._rows}
        candidates = {text_cell(video) for video in self._candidates}
        self.gone = sum(cells[0] not in candidates for cells in earlier)
        self.stale = sum(cells[0] in candidates and cells[0] not in staying for cells in earlier)

    def _settle(self) -> None:
        """Makes the file hold exactly the rows there are, in the order of the candidates; closes it."""
        if self._file:
            self._file.close()  # Windows replaces no open file
        content = _HEADER + "".join(self._rows[video] for video in self._candidates if video in self._rows)
        if _read(self._path) != content.encode("utf-8"):
            write_whole(self._path, content, temporary=self._temporary())

    def _temporary(self) -> Path:
        # Always the same, for the lock lets one alone write it: so a crash can't leave more and more of them.
        state = state_path(self._path)
        return state.with_suffix(".part")

    def _open(self) -> None:
        try:
            self._file = self._path.open("wb" if self._special else "ab", buffering=0)
        except OSError as error:
            raise unwritable(self._path, error, advice="Choose another path with -o.") from error

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
        if self._state:
            self._state.close()
            self._state = None

    def _append(self, line: str) -> None:
        assert self._file is not None
        append(self._file, line.encode("utf-8"), self._path)


def _read(path: Path) -> bytes | None:
    """The content of a file; None where there is none.

    Raises:
        OutputError: the path is a folder, or something is there that can't be read and written.
    """
    try:
        with path.open("r+b") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise OutputError("is a folder", path=path, advice="Name a file.") from error
    except OSError as error:
        raise unwritable(path, error, advice="Choose another path with -o.") from error


def _check_ours(path: Path, content: bytes | None, videos: Collection[str]) -> None:
    header = _HEADER.encode("ascii")
    # The torn beginning of a header is ours as well, and so is a table that went through a Windows editor.
    if not content or header.startswith(content):
        return
    if content.split(b"\n", 1)[0].rstrip(b"\r") != header.rstrip(b"\n"):
        raise OutputError("exists and holds no results of torchfakes", path=path, advice=_ELSEWHERE)
    earlier = _rows_of(content)
    known = {text_cell(video) for video in videos}
    if earlier and not any(cells[0] in known for cells in earlier):
        raise OutputError("already holds results of other videos", path=path, advice=_ELSEWHERE)


def _rows_of(content: bytes | None) -> list[list[str]]:
    """The whole rows of a table, the header left out."""
    text = (content or b"").decode("utf-8", "replace")
    rows: list[list[str]] = []
    with suppress(csv.Error):  # what a damaged disk has left; the rows up to there are good
        rows.extend(csv.reader(io.StringIO(text, newline="")))
    return [cells for cells in rows[1:] if len(cells) == len(BATCH_COLUMNS)]


def _cells(result: VideoResult) -> list[str]:
    info = result.info
    known = result.status is Status.OK  # nothing is counted in a file that failed
    return [
        text_cell(result.path),
        result.status.value,
        result.verdict.value if result.verdict else "",
        number_cell(result.p_fake, SCORE_DIGITS),
        result.reason.value if result.reason else "",
        number_cell(info.duration_s if info else None, TIME_DIGITS),
        number_cell(info.width if info else None),
        number_cell(info.height if info else None),
        number_cell(float(info.fps) if info and info.fps is not None else None, RATE_DIGITS),
        number_cell(result.frames_sampled if known else None),
        number_cell(result.faces_scored if known else None),
        number_cell(result.faces_blurry if known else None),
        number_cell(len(result.tracks) if known else None),
        number_cell(result.peak_time_s, TIME_DIGITS),
        number_cell(result.elapsed_s, TIME_DIGITS),
        text_cell(result.model),
        text_cell(result.error),
    ]
