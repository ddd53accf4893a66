"""A batch as JSON Lines, for programs: one object a file, with the columns of the CSV.

It is the row and not the whole document that ``scan --json`` prints, so that every format holds the same table and a
reader of tables (pandas, Polars, DuckDB, jq) finds the same columns, flat, in each. It grows by a few hundred bytes a
file however long the videos are.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress

from torchfakes_cli.report.batch.line_file import LineFile
from torchfakes_cli.report.batch.row import BATCH_COLUMNS
from torchfakes_cli.report.batch.table_file import Record
from torchfakes_cli.report.cells import distinct_names

_BEGINNING = b'{"path":"'


class JsonlFile(LineFile):
    """ASCII, so that no reader splits a line at an exotic line break in a name."""

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """See ``TableFile``; half a character, which JSON could spell, would keep many readers from the whole file."""
        return distinct_names(paths)

    def line(self, record: Record) -> str:
        """See ``LineFile``."""
        fields = record.values._asdict()
        return json.dumps(fields, allow_nan=False, ensure_ascii=True, separators=(",", ":")) + "\n"

    def is_ours(self, content: bytes) -> bool:
        """See ``LineFile``."""
        line, end, _ = content.partition(b"\n")
        if end:
            return _name(line) is not None
        return _BEGINNING.startswith(line) or line.startswith(_BEGINNING)

    def names_in(self, content: bytes) -> list[str]:
        """See ``LineFile``."""
        names = map(_name, content.split(b"\n")[:-1])
        return [name for name in names if name is not None]


def _name(line: bytes) -> str | None:
    """The name in a whole row; None where it is none."""
    with suppress(ValueError):
        fields = json.loads(line)
        if isinstance(fields, dict) and set(fields) == set(BATCH_COLUMNS):
            return str(fields["path"])
    return None
