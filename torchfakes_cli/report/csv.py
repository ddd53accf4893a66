"""CSV cells and lines that are safe in a spreadsheet, and the timeline of one clip as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

from torchfakes_cli.files import check_targets, write_atomically
from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.rows import COLUMN_DIGITS, TIMELINE_COLUMNS, rounded, timeline_row

# What a spreadsheet takes for the start of a formula (OWASP, "CSV Injection"). Leading apostrophes are part of the
# pattern so that the escape can be undone: `=x` and a file really called `'=x` stay apart.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def escape_undecodable(text: str) -> str:
    r"""Show bytes of a file name that are no UTF-8 as ``\xNN``, so that the text can be encoded.

    Example:
        >>> escape_undecodable("caf\udce9.mp4")
        'caf\\xe9.mp4'
    """
    return _SURROGATE.sub(_escape_surrogate, text)


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match.group())
    # Python maps the undecodable bytes 0x80…0xFF to U+DC80…U+DCFF; other lone surrogates come from Windows names.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def distinct_names(paths: Iterable[str]) -> dict[str, str]:
    r"""Map paths to text that can be encoded, no two of them alike.

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
    """Text that no spreadsheet runs: what would start a formula gets a leading apostrophe.

    Example:
        >>> text_cell("=cmd|'/c calc'!A1.mp4")
        "'=cmd|'/c calc'!A1.mp4"
    """
    escaped = escape_undecodable(text)
    return f"'{escaped}" if _FORMULA.match(escaped) else escaped


def number_cell(value: float | None, digits: int = 0) -> str:
    """A number with a fixed number of decimals; empty where it is missing."""
    number = rounded(value, digits)
    return "" if number is None else f"{number:.{digits}f}"


def csv_cells(columns: Sequence[str], values: Sequence[str | float | None]) -> list[str]:
    """The cells of one row, with the decimals of each column (``COLUMN_DIGITS``)."""
    return [
        text_cell(value) if isinstance(value, str) else number_cell(value, COLUMN_DIGITS.get(column, 0))
        for column, value in zip(columns, values, strict=True)
    ]


def csv_line(cells: Iterable[str]) -> str:
    """One CSV record with its line end; line breaks and quotes inside a cell are quoted."""
    line = io.StringIO(newline="")
    # Python quotes a lone carriage return only where it is part of the line end.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def check_timeline_targets(
    paths: Iterable[str | PathLike[str]], *, force: bool = False, make_folders: bool = False
) -> None:
    """Check before a scan that its timelines can be written.

    An earlier timeline is replaced; any other file only with ``force``.

    Args:
        paths: of the timelines.
        force: let any file be replaced.
        make_folders: make the folders that are missing.

    Raises:
        OutputError: a folder can't be written, or a path is taken by something else.
    """
    header = ",".join(TIMELINE_COLUMNS)
    check_targets(
        paths, lambda line: line == header, kind="a timeline", option="-o", force=force, make_folders=make_folders
    )


def write_timeline(path: str | PathLike[str], timeline: Iterable[FaceScore]) -> None:
    """Write the timeline of one clip as CSV, whole or not at all: a row a face, and one a frame without any.

    Args:
        path: an existing file is replaced (see ``check_timeline_targets``).
        timeline: in order of time.

    Raises:
        OutputError: it can't be written.
    """
    rows = (csv_cells(TIMELINE_COLUMNS, timeline_row(score)) for score in timeline)
    write_atomically(Path(path), "".join(map(csv_line, [TIMELINE_COLUMNS, *rows])))
