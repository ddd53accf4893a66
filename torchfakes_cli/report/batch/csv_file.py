"""A batch as CSV, for spreadsheets: a header, then one row a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from contextlib import suppress

from torchfakes_cli.report.batch.line_file import LineFile
from torchfakes_cli.report.batch.row import BATCH_COLUMNS, BATCH_DIGITS
from torchfakes_cli.report.batch.table_file import Record
from torchfakes_cli.report.cells import csv_cells, csv_line, text_cell


class CsvFile(LineFile):
    """See ``cells`` for what keeps it safe in a spreadsheet."""

    header = csv_line(BATCH_COLUMNS)

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """See ``TableFile``."""
        return {path: text_cell(path) for path in paths}

    def line(self, record: Record) -> str:
        """See ``LineFile``."""
        return csv_line(csv_cells(BATCH_COLUMNS, record.row, BATCH_DIGITS))

    def is_ours(self, content: bytes) -> bool:
        """See ``LineFile``; a table that went through a Windows editor is ours as well."""
        header = self.header.encode("ascii")
        return header.startswith(content) or content.split(b"\n", 1)[0].rstrip(b"\r") == header.rstrip(b"\n")

    def names_in(self, content: bytes) -> list[str]:
        """See ``LineFile``."""
        text = content.decode("utf-8", "replace")
        rows: list[list[str]] = []
        with suppress(csv.Error):  # what a damaged disk has left; the rows up to there are good
            rows.extend(csv.reader(io.StringIO(text, newline="")))
        return [cells[0] for cells in rows[1:] if len(cells) == len(BATCH_COLUMNS)]
