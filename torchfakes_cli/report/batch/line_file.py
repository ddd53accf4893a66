"""A table of lines: a row is appended, and is on the disk with that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from io import FileIO
from pathlib import Path

from torchfakes_cli.report.batch.table_file import OTHER_PATH, Record, not_ours
from torchfakes_cli.report.files import append, existing, is_special, unwritable, write_whole


class LineFile(ABC):
    """A text file with a line a row. A device or a pipe just gets all rows one after another.

    Args:
        path: of the table.
        part: where a new version of it is written first.
    """

    holds_timelines = False
    lags = False

    #: The first line, with its end; empty where the format has none.
    header = ""

    def __init__(self, path: Path, part: Path) -> None:
        self._path = path
        self._part = part
        self._special = is_special(path)
        self._file: FileIO | None = None

    @abstractmethod
    def names(self, paths: Collection[str]) -> dict[str, str]:
        """See ``TableFile``."""

    @abstractmethod
    def line(self, record: Record) -> str:
        """One row, with its line end."""

    @abstractmethod
    def is_ours(self, content: bytes) -> bool:
        """Whether content, which isn't empty, is a table of ours, or the torn beginning of one."""

    @abstractmethod
    def names_in(self, content: bytes) -> list[str]:
        """The names in the whole rows of a table of ours."""

    def earlier(self, *, force: bool) -> list[str]:
        """See ``TableFile``."""
        content = None if self._special else existing(self._path)
        if force or not content:
            return []
        if not self.is_ours(content):
            raise not_ours(self._path)
        return self.names_in(content)

    def settle(self, records: Sequence[Record]) -> None:
        """See ``TableFile``; a device or a pipe is only begun."""
        if self._special:
            if not self._file:
                self._open("wb")
                self._append(self.header)
            return
        self.close()  # Windows replaces no open file
        content = (self.header + "".join(map(self.line, records))).encode("utf-8")
        if existing(self._path) != content:
            write_whole(self._path, content, temporary=self._part)
        self._open("ab")

    def write(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """See ``TableFile``."""
        if replaces and not self._special:
            self.settle(records())
        else:
            self._append(self.line(record))

    def close(self) -> None:
        """See ``TableFile``."""
        if self._file:
            self._file.close()
            self._file = None

    def _open(self, mode: str) -> None:
        try:
            self._file = FileIO(self._path, mode)
        except OSError as error:
            raise unwritable(self._path, error, advice=OTHER_PATH) from error

    def _append(self, text: str) -> None:
        assert self._file is not None
        append(self._file, text.encode("utf-8"), self._path)
