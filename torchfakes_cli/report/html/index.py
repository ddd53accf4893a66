"""The page that leads to the reports on many videos: one row a file, sortable by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike, fsencode
from pathlib import Path
from urllib.parse import quote

from torchfakes_cli.files import write_atomically
from torchfakes_cli.records import Provenance, Status, Verdict, VideoResult
from torchfakes_cli.report.html.page import again
from torchfakes_cli.report.html.rendering import render
from torchfakes_cli.report.rows import BatchRow, batch_row
from torchfakes_cli.report.summary import LIMITS, reason_words

#: Name of the page in the folder of the reports.
INDEX = "index.html"

#: Most worth a look first.
_RANKS = {Verdict.FAKE.value: 4, Verdict.INCONCLUSIVE.value: 3, Verdict.REAL.value: 2, Status.ERROR.value: 1}
_COLUMNS = (
    ("file", "text"),
    ("verdict", "text"),
    ("p_fake", "number"),
    ("people", "number"),
    ("peak", "number"),
    ("length", "number"),
    ("note", "text"),
)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One file.

    Attributes:
        path: as the user gave it.
        page: address of its report, relative to the index; None where there is none.
        verdict: or ``error``.
        p_fake: None where nothing was scored.
        people: None where the file failed.
        peak_s: time of the most suspicious face.
        duration_s: of the video.
        note: why it is inconclusive, or what went wrong.
    """

    path: str
    page: str | None
    verdict: str
    p_fake: float | None
    people: int | None
    peak_s: float | None
    duration_s: float | None
    note: str

    @property
    def rank(self) -> int:
        """For sorting by verdict."""
        return _RANKS[self.verdict]


def row_of_result(result: VideoResult, page: Path | None, folder: Path) -> IndexRow:
    """The row of a file that was scanned.

    Args:
        result: of the scan, or one with status ``error``.
        page: its report; None without one.
        folder: of the index.
    """
    row = row_of_earlier(batch_row(result), page if result.status is Status.OK else None, folder)
    return replace(row, note=result.error or reason_words(result.reason, picture=result.is_picture))


def row_of_earlier(row: BatchRow, page: Path | None, folder: Path) -> IndexRow:
    """The row of a file that an earlier run scanned.

    Args:
        row: in the table of that run.
        page: its report; None without one.
        folder: of the index.
    """
    return IndexRow(
        path=row.path,
        page=address(page, folder) if page else None,
        verdict=row.verdict or Status.ERROR.value,
        p_fake=row.p_fake,
        people=row.tracks,
        peak_s=row.peak_time_s,
        duration_s=row.duration_s,
        note=reason_words(row.reason),
    )


def address(page: Path, folder: Path) -> str:
    """The relative address of a page in the folder of the index or below it; its name, whatever it is, stays a name."""
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
    """Writes the index, whole or not at all.

    Args:
        path: an existing file is replaced (see ``check_pages``).
        rows: in the order to be shown.
        provenance: of the scan.
        model: name of the detector.
        unfinished: files that an interruption left out.

    Raises:
        OutputError: it can't be written.
    """
    tally = Counter(row.verdict for row in rows)
    videos = "1 video" if len(rows) == 1 else f"{len(rows)} videos"
    page = render(
        "index.html.j2",
        script="sort.js",
        rows=rows,
        columns=_COLUMNS,
        counts=f"{videos}: " + ", ".join(f"{tally[kind]} {kind}" for kind in _RANKS if tally[kind]),
        limits=LIMITS,
        unfinished=unfinished,
        provenance=provenance,
        again=again(provenance, model),
    )
    write_atomically(Path(path), page)
