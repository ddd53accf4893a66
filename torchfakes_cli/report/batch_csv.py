"""The results of many files as CSV: one row a file, on disk as soon as it is known."""

from __future__ import annotations

from contextlib import suppress
from io import FileIO
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from torchfakes_cli.errors import OutputError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.cells import RATE_DIGITS, SCORE_DIGITS, TIME_DIGITS, csv_line, number_cell, text_cell
from torchfakes_cli.report.files import check_folder, first_line, is_special, unwritable

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


class BatchCsv:
    """A sink for results, used as a context manager; entering writes the header, so an unwritable place shows early.

    Every row is handed to the system whole, as one write: whatever kills the program leaves complete rows.

    Args:
        path: where to write.
        force: replace what is there.

    Raises:
        OutputError: on entering, the place can't be written or is taken; on ``write``, the row couldn't be written
            (the rows before it stay).
    """

    def __init__(self, path: str | PathLike[str], *, force: bool = False) -> None:
        self._path = Path(path)
        self._force = force
        self._file: FileIO | None = None

    def check(self) -> None:
        """Finds out, without leaving anything behind, whether entering would fail.

        Raises:
            OutputError: the place can't be written or is taken.
        """
        if is_special(self._path):
            return
        line = first_line(self._path)
        ours = line == ",".join(BATCH_COLUMNS)
        # An empty file, or a header alone, holds nothing to lose.
        if line and not self._force and not (ours and self._path.stat().st_size <= len(csv_line(BATCH_COLUMNS))):
            raise OutputError(
                "already holds results" if ours else "exists and holds no results of torchfakes",
                path=self._path,
                advice="Choose another path with -o, or replace it with --force.",
            )
        check_folder(self._path, advice="Choose another path with -o.")

    def __enter__(self) -> Self:
        self.check()
        try:
            self._file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise unwritable(self._path, error, advice="Choose another path with -o.") from error
        try:
            self._append(csv_line(BATCH_COLUMNS))
        except OutputError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def write(self, result: VideoResult) -> None:
        """Adds the row of one file."""
        self._append(csv_line(_cells(result)))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: str) -> None:
        if self._file is None:
            raise ValueError("a BatchCsv takes rows only inside its with block")
        rest = memoryview(line.encode("utf-8"))
        start = self._file.tell() if self._file.seekable() else 0
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # a device can't be shortened
                self._file.truncate(start)  # a full disk must not leave half a row
            raise unwritable(self._path, error, advice="The rows before it are kept.") from error


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
