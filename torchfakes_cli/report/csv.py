"""CSV output: cells and lines that are safe in a spreadsheet, and the timeline of one clip."""

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

# Start of a formula in a spreadsheet (OWASP, "CSV Injection"). Leading apostrophes are part of the pattern, so that the
# escape is reversible: `=x` and a file called `'=x` remain distinct.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def escape_undecodable(text: str) -> str:
    r"""Escape bytes of a file name that aren't valid UTF-8 as ``\xNN``, so that the text can be encoded.

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


def text_of_cell(cell: str) -> str:
    """Return the text of a cell that ``text_cell`` formatted."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


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
    """Check in advance that timelines can be written.

    An earlier timeline may be replaced, any other file only with ``force``.

    Args:
        paths: paths of the timelines.
        force: allow any file to be replaced.
        make_folders: make missing folders.

    Raises:
        OutputError: a folder can't be written, or a path holds another file.
    """
    header = ",".join(TIMELINE_COLUMNS)
    check_targets(
        paths,
        lambda line: line == header,
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
