"""CSV output: cells that are safe in a spreadsheet, the timeline of one clip, and the growing table of many."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import check_targets, existing, unwritable, write_atomically
from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.columns import (
    BATCH_COLUMNS,
    COLUMN_DIGITS,
    TIMELINE_COLUMNS,
    BatchRow,
    TimelineRow,
    are_batch_columns,
    column_types,
    rounded,
    timeline_row,
)
from torchfakes_cli.report.formatting import escape_undecodable

OTHER_PATH = "Choose another path with -o."
ROWS_KEPT = "The rows before it are kept. Make room, and run the same command again to go on."

# Start of a formula in a spreadsheet (OWASP, "CSV Injection"). Leading apostrophes are part of the pattern, so that the
# escape is reversible: `=x` and a file called `'=x` remain distinct.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def distinct_names(paths: Iterable[str]) -> dict[str, str]:
    r"""Map paths to distinct texts that can be encoded.

    Example:
        >>> distinct_names(["caf\udce9.mp4", "caf\\xe9.mp4"])
        {'caf\udce9.mp4': 'caf\\\\xe9.mp4', 'caf\\xe9.mp4': 'caf\\xe9.mp4'}
    """
    names = {path: escape_undecodable(path) for path in paths}
    taken = {path for path, name in names.items() if path == name}
    for path, name in names.items():
        while path != name and name in taken:
            name = names[path] = name.replace("\\", "\\\\", 1)
        taken.add(name)
    return names


def text_cell(text: str) -> str:
    """Format a text cell: a leading apostrophe neutralises what a spreadsheet would run as a formula.

    Example:
        >>> text_cell("=cmd|'/c calc'!A1.mp4")
        "'=cmd|'/c calc'!A1.mp4"
    """
    escaped = escape_undecodable(text)
    return f"'{escaped}" if _FORMULA.match(escaped) else escaped


def number_cell(value: float | None, digits: int = 0) -> str:
    """Format a number with a fixed number of decimals; return an empty string for None."""
    number = rounded(value, digits)
    return "" if number is None else f"{number:.{digits}f}"


def csv_cells(columns: Sequence[str], values: Sequence[str | float | None]) -> list[str]:
    """Format the cells of one row, with the decimals of each column (``COLUMN_DIGITS``)."""
    return [
        text_cell(value) if isinstance(value, str) else number_cell(value, COLUMN_DIGITS.get(column, 0))
        for column, value in zip(columns, values, strict=True)
    ]


def csv_line(cells: Iterable[str]) -> str:
    """Format one CSV record with its line end; cells with line breaks or quotes are quoted."""
    line = io.StringIO(newline="")
    # Python quotes a lone carriage return only where it is part of the line end.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def check_timeline_targets(
    paths: Iterable[str | PathLike[str]], *, force: bool = False, make_folders: bool = False
) -> None:
    """Check in advance that timelines can be written; arguments and errors are those of ``files.check_targets``."""
    check_targets(
        paths,
        lambda line: line == ",".join(TIMELINE_COLUMNS),
        kind="a timeline",
        option="--timeline or --timelines",
        force=force,
        make_folders=make_folders,
    )


def write_timeline(path: str | PathLike[str], timeline: Iterable[FaceScore]) -> None:
    """Write the timeline of one clip as CSV atomically, with one row per face and one per frame without a face.

    Args:
        path: path of the file; an existing one is replaced.
        timeline: rows in order of time.

    Raises:
        OutputError: the file can't be written.
    """
    rows = (csv_cells(TIMELINE_COLUMNS, timeline_row(score)) for score in timeline)
    write_atomically(Path(path), "".join(map(csv_line, [TIMELINE_COLUMNS, *rows])))


class LineTable(ABC):
    """Table of many files as text with one row per line, which grows by appending.

    Args:
        path: path of the table.
    """

    header = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None

    @abstractmethod
    def line(self, row: BatchRow) -> str:
        """Format one row, with its line end."""

    @abstractmethod
    def read(self) -> list[BatchRow] | None:
        """Return the rows in a file that isn't empty; None if it isn't a torchfakes table."""

    def holds(self, rows: Sequence[BatchRow]) -> bool:
        """Return True if the file has exactly these rows."""
        return existing(self._path) == self._content(rows)

    def write(self, target: Path, rows: Sequence[BatchRow], _: Iterable[Sequence[TimelineRow]]) -> None:
        """Write all rows to a file in place of the table."""
        target.write_bytes(self._content(rows))

    def append(self, text: str) -> None:
        """Append lines completely or not at all, and flush them to disk; devices and pipes have no such guarantee.

        Raises:
            OutputError: the file can't be written; a regular file is truncated to its old length.
        """
        try:
            file = self._file = self._file or FileIO(self._path, "ab")
        except OSError as error:
            raise unwritable(self._path, error, advice=OTHER_PATH) from error
        status = os.fstat(file.fileno())
        regular = stat.S_ISREG(status.st_mode)
        rest = memoryview(text.encode("utf-8"))
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if regular:
                os.fsync(file.fileno())
        except OSError as error:
            if regular:
                with suppress(OSError):
                    file.truncate(status.st_size)
            raise unwritable(self._path, error, advice=ROWS_KEPT if regular else OTHER_PATH) from error

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _content(self, rows: Sequence[BatchRow]) -> bytes:
        return (self.header + "".join(map(self.line, rows))).encode("utf-8")


class CsvTable(LineTable):
    """CSV table of many files: a header, then one row per file."""

    header = csv_line(BATCH_COLUMNS)

    def line(self, row: BatchRow) -> str:
        """See ``LineTable``."""
        return csv_line(csv_cells(BATCH_COLUMNS, row))

    def read(self) -> list[BatchRow] | None:
        """See ``LineTable``; a table that a spreadsheet or a Windows editor has saved is ours as well."""
        content = (existing(self._path) or b"").decode("utf-8-sig", "replace")
        if self.header.startswith(content):
            return []
        if other := re.match(r"path([;\t])status\1", content):
            raise OutputError(
                f"was saved with {other[1]!r} between its columns, as some spreadsheets do",
                path=self._path,
                advice="Save it as CSV with commas, or choose another path with -o.",
            )
        lines = csv.reader(io.StringIO(content, newline=""))
        rows: list[BatchRow] = []
        with suppress(csv.Error):  # a damaged file: the rows up to there are good
            columns = next(lines)
            if not are_batch_columns(columns):
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
    """Return the value of a cell that ``csv_cells`` formatted."""
    if kind is str or not cell:
        return (cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell) or None
    with suppress(ValueError):
        return kind(cell)
    return None
