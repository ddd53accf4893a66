"""Index page of the reports on many videos: a row per file, sortable by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os import PathLike, fsencode
from pathlib import Path
from urllib.parse import quote

from torchfakes_cli.files import write_atomically
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.report.columns import BatchRow, batch_row
from torchfakes_cli.report.html.rendering import again, render
from torchfakes_cli.report.summary import Provenance, reason_words

#: File name of the page in the folder of the reports.
INDEX = "index.html"

#: Order of the verdicts, those most worth a look first.
_RANKS = {Verdict.FAKE.value: 4, Verdict.INCONCLUSIVE.value: 3, Verdict.REAL.value: 2, Status.ERROR.value: 1}


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Row of one file.

    Attributes:
        row: row of the file in a table.
        page: address of its report, relative to the index; None without a report.
        note: why it is inconclusive, or what went wrong.
    """

    row: BatchRow
    page: str | None
    note: str

    @property
    def verdict(self) -> str:
        """Verdict, or ``error``."""
        return self.row.verdict or Status.ERROR.value

    @property
    def rank(self) -> int:
        """Key for sorting by verdict."""
        return _RANKS[self.verdict]


def row_of_result(result: VideoResult, page: Path | None, folder: Path) -> IndexRow:
    """Return the row of a result, with the address of its report in the folder of the index."""
    row = row_of_earlier(batch_row(result), page if result.status is Status.OK else None, folder)
    return replace(row, note=result.error or reason_words(result.reason, picture=result.is_picture))


def row_of_earlier(row: BatchRow, page: Path | None, folder: Path) -> IndexRow:
    """Return the row of a file that an earlier run scanned."""
    return IndexRow(row, _address(page, folder) if page else None, reason_words(row.reason))


def _address(page: Path, folder: Path) -> str:
    """Return the relative address of a page in or below the folder of the index; special characters are quoted."""
    parts = page.relative_to(folder).parts
    return "./" + "/".join(quote(fsencode(part), safe="") for part in parts)


def write_index(
    path: str | PathLike[str],
    rows: Sequence[IndexRow],
    provenance: Provenance,
    model: str,
    *,
    unfinished: int = 0,
) -> None:
    """Write the index atomically.

    Args:
        path: path of the page; an existing file is replaced.
        rows: rows in the order to be shown.
        provenance: provenance of the results.
        model: name of the detector.
        unfinished: number of files that an interruption left out.

    Raises:
        OutputError: the page can't be written.
    """
    tally = Counter(row.verdict for row in rows)
    files = "1 file" if len(rows) == 1 else f"{len(rows)} files"
    page = render(
        "index.html.j2",
        script="sort.js",
        rows=rows,
        counts=f"{files}: " + ", ".join(f"{tally[kind]} {kind}" for kind in _RANKS if tally[kind]),
        unfinished=unfinished,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        provenance=provenance,
        again=again(provenance, model),
    )
    write_atomically(Path(path), page)
