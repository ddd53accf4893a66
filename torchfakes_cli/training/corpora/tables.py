"""CSV lists of files, as editors, spreadsheets and scripts write them.

Cells are separated by a comma, a semicolon, a tab or a bar, in UTF-8, UTF-16 or UTF-32. The first line names the
columns, in any case. Paths may be relative or absolute, with slashes or backslashes.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import is_footage, listed

_SEPARATORS = ",;\t|"
#: Maximum length of a line before the rows: files of other programs may be one line of gigabytes.
_MAX_HEADER = 1 << 16
#: Columns of lists that name files, and that place them.
_NAMING, _PLACING = {"path", "video", "file", "filename"}, {"group", "split"}


def find_table(folder: Path, columns: tuple[str, ...]) -> Path | None:
    """Find the one table at the top of a folder that has these columns.

    Raises:
        DataError: there are several, or one that is meant to be it can't be used.
    """
    candidates = _tables(folder)
    found = [path for path in candidates if set(columns) <= set(table_columns(path))]
    for path in _tables(folder, {".txt"}):
        with suppress(DataError):  # it may be anything, or a table, such as Excel's Unicode text
            found += [path] if set(columns) <= set(table_columns(path)) else []
    if len(found) > 1:
        raise DataError(
            f"several CSV files have the columns {' and '.join(columns)}: {listed([path.name for path in found])}",
            path=folder,
            advice="Keep one of them at the top.",
        )
    if found:
        return found[0]
    for path in candidates:
        if fault := _fault(path, columns):
            raise DataError(
                fault,
                path=path,
                advice=f"Name the columns {' and '.join(columns)} in its first line, or move the file elsewhere.",
            )
    return None


def _fault(table: Path, columns: tuple[str, ...]) -> str:
    """Return why a table that is meant to have these columns can't be used; empty for another kind of table."""
    header = table_columns(table)
    if any(is_footage(Path(cell)) for cell in header):
        return "is a list of files without a first line that names its columns"
    if len(header) == 1 and set(columns) <= set(re.findall(r"\w+", header[0])):
        return "separates its columns by something other than a comma, semicolon, tab or bar"
    # A list for --split or --groups may be here, too.
    other = "video" in header and _PLACING & set(header)
    if columns[0] not in header and set(columns[1:]) <= set(header) and _names_files(table) and not other:
        return f"lacks the column {columns[0]}"
    return ""


def _names_files(table: Path) -> bool:
    """Return True for a list of files, by its columns or its first row."""
    try:
        row = next((row for _, row in table_rows(table)), {})
    except DataError:  # a table of another program, or one that is reported when it is used
        return False
    return bool(_NAMING & set(row)) or any(is_footage(Path(cell)) for cell in row.values())


def unused_tables(folder: Path, used: Iterable[Path], columns: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return notes on lists of files at the top of a folder that were not used; a used one has these columns."""
    read = {path.resolve() for path in used}
    needed = f"a list of the corpus needs the columns {' and '.join(columns)}, and " if columns else ""
    return tuple(
        f"{path.name} is not used: {needed}lists of splits or groups are given with --split or --groups"
        for path in _tables(folder)
        if path.resolve() not in read and _names_files(path)
    )


def unknown_names(names: Sequence[str], table: Path) -> tuple[str, ...]:
    """Return a note on names in a table that match no file, if there are any."""
    return (f"{table.name} names what isn't here, in {len(names)} lines: {listed(names)}",) if names else ()


def _tables(folder: Path, suffixes: Collection[str] = (".csv", ".tsv")) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]


def table_columns(table: Path) -> list[str]:
    """Read the names of a table's columns, in lower case; ``DataError`` if it can't be read."""
    with _opened(table) as file:
        return _header(file)[0]


def table_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells of each row, by the lower-case name of the column; absent cells are empty.

    Raises:
        DataError: it can't be read, two columns have one name, or a row has NUL bytes or too many cells.
    """
    with _opened(table) as file:
        columns, separator, skipped = _header(file)
        if twice := sorted({column for column in columns if column and columns.count(column) > 1}):
            raise DataError(f"names the column {twice[0]} twice", path=table, advice="Rename one of them.")
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            line = skipped + reader.line_num
            if any("\0" in cell for cell in cells):
                raise DataError(f"line {line} holds a NUL byte", path=table, advice="Save it as CSV in UTF-8.")
            if any(cells[len(columns) :]):
                raise DataError(
                    f"line {line} has {len(cells)} cells, but the first line names {len(columns)} columns",
                    path=table,
                    advice="Name every column, and put cells that hold a separator in quotes.",
                )
            if any(cells):
                padded = cells + [""] * (len(columns) - len(cells))
                yield line, {c: cell for c, cell in zip(columns, padded, strict=False) if c}


def _header(file: TextIO) -> tuple[list[str], str, int]:
    """Return columns, separator, and the number of lines read."""
    line, count, separators = "", 0, _SEPARATORS
    while not line.strip():
        line = file.readline(_MAX_HEADER)
        if not line:
            return [], ",", count
        count += 1
        if line.casefold().startswith("sep=") and line[4:5] in _SEPARATORS:  # Excel declares the separator like this
            line, separators = "", line[4]
    found = {each: next(csv.reader([line], delimiter=each, skipinitialspace=True)) for each in separators}
    separator = max(found, key=lambda each: len(found[each]))
    return [cell.strip().casefold() for cell in found[separator]], separator, count


@contextmanager
def _opened(table: Path) -> Iterator[TextIO]:
    try:
        with table.open("rb") as file:
            # JSON's rule, by the byte order mark or the zeros among the first bytes, holds for any text in ASCII.
            encoding = json.detect_encoding(file.read(4))
        # UTF-8 keeps names that are no UTF-8, as the file system has them.
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        with table.open(encoding=encoding, errors=errors, newline="") as text:
            yield text
    except (OSError, ValueError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DataError(f"can't be read ({reason})", path=table, advice="Save it as CSV in UTF-8.") from error


def read_text(path: Path) -> str:
    """Read a list that is no table, in the same encodings; ``DataError`` if it can't be read."""
    with _opened(path) as file:
        return file.read()


def located(root: Path, text: str) -> Path:
    """Return the file that a cell names: below ``root`` if it is there, in any spelling, else as an absolute path.

    Paths start at ``root``, or at the current folder, as scripts that search a corpus write them.
    """
    slashed = text.replace("\\", "/")
    candidates = (root / text, root / slashed, Path(slashed))
    # Unlike Path.exists, this raises no error for impossible names.
    path = next((path for path in candidates if os.path.exists(path)), root / slashed)  # noqa: PTH110
    # The spelling comes first: a link in the corpus keeps its name, wherever it leads.
    plain = Path(os.path.normpath(path.absolute()))
    for base, whole in (
        (Path(os.path.normpath(root.absolute())), plain),
        (root.resolve(), Path(os.path.realpath(path))),
    ):
        if whole.is_relative_to(base):
            return root / whole.relative_to(base)
    return plain
