"""How one value becomes one cell: text that no spreadsheet runs, numbers without noise, nothing for nothing."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

#: Decimals of each kind of number, in CSV and JSON alike.
TIME_DIGITS = 3
PIXEL_DIGITS = 1
SCORE_DIGITS = 4
SHARPNESS_DIGITS = 2
RATE_DIGITS = 3

# What a spreadsheet takes for the start of a formula (OWASP, "CSV Injection"). Leading apostrophes are part of the
# pattern so that the escape can be undone: `=x` and a file really called `'=x` stay apart.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def escape_undecodable(text: str) -> str:
    r"""Shows bytes of a file name that are no UTF-8 as ``\xNN``, so that the text can be encoded.

    Example:
        >>> escape_undecodable("caf\udce9.mp4")
        'caf\\xe9.mp4'
    """
    return _SURROGATE.sub(_escape_surrogate, text)


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match.group())
    # Python stands U+DC80…U+DCFF for the undecodable bytes 0x80…0xFF; other lone surrogates come from Windows names.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def distinct_names(paths: Iterable[str]) -> dict[str, str]:
    r"""The paths as text that can be encoded, by path, and no two of them alike.

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
    """The text, safe in a spreadsheet: what would start a formula gets a leading apostrophe.

    Example:
        >>> text_cell("=cmd|'/c calc'!A1.mp4")
        "'=cmd|'/c calc'!A1.mp4"
    """
    escaped = escape_undecodable(text)
    return f"'{escaped}" if _FORMULA.match(escaped) else escaped


def rounded(value: float | None, digits: int) -> float | None:
    """The number with so many decimals; None for a missing or non-finite one, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) + 0.0


def number_cell(value: float | None, digits: int = 0) -> str:
    """The number with exactly so many decimals; empty where it is missing."""
    number = rounded(value, digits)
    return "" if number is None else f"{number:.{digits}f}"


def csv_cells(columns: Sequence[str], values: Sequence[str | float | None], digits: Mapping[str, int]) -> list[str]:
    """The cells of one row, as ``text_cell`` and ``number_cell`` make them.

    Args:
        columns: their names.
        values: one a column.
        digits: by column; whole numbers have none.
    """
    return [
        text_cell(value) if isinstance(value, str) else number_cell(value, digits.get(column, 0))
        for column, value in zip(columns, values, strict=True)
    ]


def csv_line(cells: Iterable[str]) -> str:
    """One CSV record with its line end; line breaks and quotes inside a cell are quoted."""
    line = io.StringIO(newline="")
    # Python quotes a lone carriage return only where it is part of the line end.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"
