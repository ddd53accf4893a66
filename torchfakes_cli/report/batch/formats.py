"""Which format a table has, by the ending of its name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torchfakes_cli.errors import UsageError
from torchfakes_cli.report.batch.table_file import TableFile

_JSONL = (".jsonl", ".ndjson")
_SQLITE = (".sqlite", ".sqlite3", ".db")
_PARQUET = (".parquet",)
#: Of files that people would take for something else than the CSV that any other ending stands for.
_NOT_WRITTEN = (".json", ".xlsx", ".xls", ".ods", ".feather", ".arrow", ".orc")


def open_format(path: Path, part: Path) -> TableFile:
    """The file that is to be written, not opened yet.

    Args:
        path: of the table; an unknown ending stands for CSV.
        part: where a new version of it may be written first.

    Raises:
        UsageError: the ending is that of a format that isn't written.
    """
    ending = path.suffix.lower()
    if ending in _NOT_WRITTEN:
        raise UsageError(
            f"results are not written as {ending}",
            path=path,
            advice="Choose a name that ends in .csv, .jsonl, .sqlite or .parquet.",
        )
    # Each format is loaded when it is used: Python can be built without SQLite.
    if ending in _JSONL:
        from torchfakes_cli.report.batch.jsonl_file import JsonlFile

        return JsonlFile(path, part)
    if ending in _SQLITE:
        from torchfakes_cli.report.batch.sqlite_file import SqliteFile

        return SqliteFile(path, part)
    if ending in _PARQUET:
        from torchfakes_cli.report.batch.parquet_file import ParquetFile

        return ParquetFile(path, part)
    from torchfakes_cli.report.batch.csv_file import CsvFile

    return CsvFile(path, part)


def check_is_csv(path: str | PathLike[str]) -> None:
    """Makes sure that a file, which will be CSV, isn't called something else.

    Raises:
        UsageError: it is.
    """
    ending = Path(path).suffix.lower()
    if ending in (*_JSONL, *_SQLITE, *_PARQUET, *_NOT_WRITTEN):
        raise UsageError(
            f"the timeline of one video is CSV, not {ending}",
            path=path,
            advice="Choose a name that ends in .csv, or print everything with --json.",
        )
