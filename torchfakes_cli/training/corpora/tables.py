"""CSV lists of files, as editors, spreadsheets and scripts write them.

Cells are separated by a comma, a semicolon, a tab or a bar, in UTF-8, UTF-16 or UTF-32. The first line names the
columns, in any case. Paths may be relative or absolute, with slashes or backslashes.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import is_footage, listed

_SEPARATORS = ",;\t|"
_SUFFIXES = frozenset({".csv", ".tsv"})
#: Longest first line that is read: other programs' files may hold one line of gigabytes.
_MAX_HEADER = 1 << 16
#: Columns of lists that say where files belong.
_NAMING, _PLACING = {"path", "video", "file", "filename"}, {"group", "split"}


def find_table(folder: Path, columns: tuple[str, ...]) -> Path | None:
    """Find the one table at the top of a folder that has these columns.

    Raises:
        DataError: there are several, or one that is meant to be it can't be used.
    """
    found = _tables(folder)
    tables = [path for path in found if set(columns) <= set(table_columns(path))]
    if len(tables) > 1:
        raise DataError(
            f"several CSV files have the columns {' and '.join(columns)}: {listed([t.name for t in tables])}",
            path=folder,
            advice="Keep one of them at the top.",
        )
    if tables:
        return tables[0]
    for path in found:
        if fault := _fault(path, columns):
            raise DataError(
                fault,
                path=path,
                advice=f"Name the columns {' and '.join(columns)} in its first line, or move the file elsewhere.",
            )
    return None


def _fault(table: Path, columns: tuple[str, ...]) -> str:
    """Say why a table that is meant to have these columns can't be used; empty for another kind of table."""
    header = table_columns(table)
    if any(is_footage(Path(cell)) for cell in header):
        return "is a list of files without a first line that names its columns"
    if len(header) == 1 and set(columns) <= set(re.findall(r"\w+", header[0])):
        return "separates its columns by something other than a comma, semicolon, tab or bar"
    # A list for --split or --groups may lie here, too.
    other = "video" in header and _PLACING & set(header)
    if columns[0] not in header and set(columns[1:]) <= set(header) and _names_files(table) and not other:
        return f"lacks the column {columns[0]}"
    return ""


def _names_files(table: Path) -> bool:
    """Whether a table is a list of files, by its columns or its first row."""
    row = next((row for _, row in table_rows(table)), {})
    return bool(_NAMING & set(row)) or any(is_footage(Path(cell)) for cell in row.values())


def unused_tables(folder: Path, used: Iterable[Path]) -> tuple[str, ...]:
    """Write notes on lists of files at the top of a folder that nothing has read."""
    read = {path.resolve() for path in used}
    return tuple(
        f"{path.name} is not used: a list of the corpus needs the columns path and label, "
        "and lists of splits or groups are given with --split or --groups"
        for path in _tables(folder)
        if path.resolve() not in read and _names_files(path)
    )


def _tables(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def table_columns(table: Path) -> list[str]:
    """Read the names of a table's columns, in lower case.

    Raises:
        DataError: it can't be read.
    """
    with _opened(table) as file:
        return _header(file)[0]


def table_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read line number and cells of each row, by the lower-case name of the column; absent cells are empty.

    Raises:
        DataError: it can't be read, or two columns have one name.
    """
    with _opened(table) as file:
        columns, separator, skipped = _header(file)
        if twice := sorted({column for column in columns if column and columns.count(column) > 1}):
            raise DataError(f"names the column {twice[0]} twice", path=table, advice="Rename one of them.")
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                padded = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
                yield skipped + reader.line_num, {c: cell for c, cell in zip(columns, padded, strict=False) if c}


def _header(file: TextIO) -> tuple[list[str], str, int]:
    """Columns, separator, and the number of lines read."""
    line, count, separators = "", 0, _SEPARATORS
    while not line.strip():
        line = file.readline(_MAX_HEADER)
        if not line:
            return [], ",", count
        count += 1
        if line.casefold().startswith("sep=") and line[4:5] in _SEPARATORS:  # Excel's way to declare the separator
            line, separators = "", line[4]
    found = {each: next(csv.reader([line], delimiter=each, skipinitialspace=True)) for each in separators}
    separator = max(found, key=lambda each: len(found[each]))
    return [cell.strip().casefold() for cell in found[separator]], separator, count


@contextmanager
def _opened(table: Path) -> Iterator[TextIO]:
    try:
        with table.open("rb") as file:
            encoding = _encoding(file.read(4))
        # UTF-8 keeps names that are no UTF-8, as the file system has them.
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        with table.open(encoding=encoding, errors=errors, newline="") as text:
            yield text
    except (OSError, ValueError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DataError(f"can't be read ({reason})", path=table, advice="Save it as CSV in UTF-8.") from error


def _encoding(start: bytes) -> str:
    # JSON's rule, by the byte order mark or the zeros among the first bytes, holds for any text that starts in ASCII.
    return json.detect_encoding(start)


def read_text(path: Path) -> str:
    """Read a list that is no table, in the same encodings.

    Raises:
        DataError: it can't be read.
    """
    with _opened(path) as file:
        return file.read()


def located(root: Path, text: str) -> Path:
    """Find the file that a cell names: below ``root`` if it lies there, however it is spelled, else absolute.

    Paths start at ``root``, or at the current folder, as scripts that search a corpus write them.
    """
    slashed = text.replace("\\", "/")
    path = next((path for path in (root / text, root / slashed, Path(slashed)) if path.exists()), root / slashed)
    # The spelling comes first: a link in the corpus keeps its name, wherever it leads.
    plain = Path(os.path.normpath(path.absolute()))
    for base, whole in ((Path(os.path.normpath(root.absolute())), plain), (root.resolve(), path.resolve())):
        if whole.is_relative_to(base):
            return root / whole.relative_to(base)
    return plain
