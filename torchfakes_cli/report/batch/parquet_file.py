"""A batch as Parquet, for data frames and query engines.

A Parquet file is finished by its last bytes, so it can't grow row by row. Rows are safe in the companion as soon as
they are known; the file itself is made anew, whole or not at all, every minute, on an interruption and at the end.
After a crash the next run writes first what the companion has.
"""

from __future__ import annotations

import importlib.util
import io
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from torchfakes_cli.errors import UsageError
from torchfakes_cli.report.batch.row import BATCH_COLUMNS, BatchRow, column_types
from torchfakes_cli.report.batch.table_file import Record, check_regular, not_ours
from torchfakes_cli.report.cells import distinct_names
from torchfakes_cli.report.files import existing, write_whole

#: Seconds after which new rows are put into the file. Writing 10 000 rows takes some hundredths of a second.
_EVERY_S = 60.0


class ParquetFile:
    """See ``TableFile``.

    Args:
        path: of the table.
        part: where a new version of it is written first.
    """

    holds_timelines = False

    def __init__(self, path: Path, part: Path) -> None:
        self.lags = False
        self._path = path
        self._part = part
        self._written_s = time.monotonic()

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """See ``TableFile``."""
        return distinct_names(paths)

    def earlier(self, *, force: bool) -> list[str]:
        """See ``TableFile``."""
        if importlib.util.find_spec("pyarrow") is None:
            advice = "Install it: pip install 'torchfakes[parquet]'."
            raise UsageError("a Parquet file needs pyarrow", path=self._path, advice=advice)
        check_regular(self._path, "a Parquet file")
        content = existing(self._path)
        return [] if force or not content else self._names_in(content)

    def settle(self, records: Sequence[Record]) -> None:
        """See ``TableFile``."""
        content = _parquet(records)
        if existing(self._path) != content:
            write_whole(self._path, content, temporary=self._part)
        self.lags = False
        self._written_s = time.monotonic()

    def write(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """See ``TableFile``."""
        self.lags = True
        if time.monotonic() - self._written_s >= _EVERY_S:
            self.settle(records())

    def close(self) -> None:
        """See ``TableFile``."""

    def _names_in(self, content: bytes) -> list[str]:
        import pyarrow.parquet
        from pyarrow import ArrowException

        with suppress(ArrowException, OSError):
            file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
            if file.schema_arrow.names == list(BATCH_COLUMNS):
                return [str(name) for name in file.read(columns=["path"])["path"].to_pylist()]
        raise not_ours(self._path)


def _parquet(records: Sequence[Record]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(column, kinds[kind]) for column, kind in column_types(BatchRow).items()])
    rows = [record.values for record in records]
    columns = list(zip(*rows, strict=True)) or [()] * len(BATCH_COLUMNS)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), buffer)
    return buffer.getvalue()
