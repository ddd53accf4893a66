"""Results of ``prepare``: summary, report and contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from torchfakes_cli.errors import DataError
from torchfakes_cli.report.drawing import INK, write
from torchfakes_cli.training.corpora.base import FAKE, SPLITS, Skipped
from torchfakes_cli.training.crops.manifest import MANIFEST_NAME, read_crop, spread, usable

if TYPE_CHECKING:
    import pandas as pd

REPORT_NAME, SHEET_NAME = "report.md", "contact_sheet.jpg"
#: Crops per row of the contact sheet, largest number of rows (a JPEG ends at 65,500 pixels), and side of a crop.
SHEET_COLUMNS, SHEET_ROWS, CELL = 10, 100, 96
_PITCH = CELL + 2
_LABEL_WIDTH = 240
_LETTERS = 14


@dataclass(frozen=True, slots=True)
class Count:
    """Counts of one collection or method in one split."""

    split: str  # ``train``, ``val`` or ``test``
    label: str  # ``real`` or ``fake``
    method: str  # method of the fakes, or collection of the genuine files
    groups: int  # number of people or pieces of footage
    videos: int  # number of files with crops
    crops: int  # number of crops
    usable: int  # number of crops without a flaw
    balanced: int  # number of crops chosen for a balanced set


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """Result of a run of ``prepare``.

    Attributes:
        out: folder of the crops.
        layout: layout of the corpus.
        counts: counts by split, label and method.
        skipped: files without crops, and why.
        notes: sentences on what is missing or doubtful.
        flaws: number of crops with each flaw.
        unchanged: number of faces of fakes left out because they equal their original's.
        damaged: number of sampled frames left out because they are damaged.
        videos_prepared: number of files processed in this run.
        videos_ready: number of files finished in earlier runs.
    """

    out: Path
    layout: str
    counts: tuple[Count, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    flaws: tuple[tuple[str, int], ...]
    unchanged: int
    damaged: int
    videos_prepared: int
    videos_ready: int

    @property
    def manifest(self) -> Path:
        """Path of the table of crops."""
        return self.out / MANIFEST_NAME

    @property
    def report(self) -> Path:
        """Path of the report: counts, and what was left out and why."""
        return self.out / REPORT_NAME

    @property
    def contact_sheet(self) -> Path:
        """Path of the picture of some crops of every kind."""
        return self.out / SHEET_NAME

    @property
    def crops(self) -> int:
        """Number of crops in the manifest."""
        return sum(count.crops for count in self.counts)


def _kinds(table: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Return the rows of each (split, label, method) in the order of a report."""
    columns = ["split", "label", "method"]
    found = [((str(split), str(label), str(method)), rows) for (split, label, method), rows in table.groupby(columns)]
    return sorted(found, key=lambda kind: (SPLITS.index(kind[0][0]), kind[0][1] == FAKE, kind[0][2]))


def count_crops(table: pd.DataFrame) -> tuple[Count, ...]:
    """Count the crops of a manifest by split, label and method."""
    return tuple(
        Count(
            *kind,
            groups=rows["group"].nunique(),
            videos=rows["video"].nunique(),
            crops=len(rows),
            usable=int(usable(rows).sum()),
            balanced=int(rows["balanced"].sum()),
        )
        for kind, rows in _kinds(table)
    )


def report_text(summary: PrepareSummary) -> str:
    """Return counts, what was left out and why, and notes, as Markdown."""
    flaws = ", ".join(f"{count} {flaw}" for flaw, count in summary.flaws)
    counts = [[str(cell) for cell in astuple(count)] for count in summary.counts]
    lines = [
        "# Crops",
        "",
        f"Corpus: {summary.layout}. {summary.crops} crops, {flaws} among them; {summary.unchanged} faces of fakes left "
        f"out since they are their original's, {summary.damaged} frames since they are damaged.",
        "",
        f"![Some crops of every kind]({SHEET_NAME})",
        "",
        *markdown_table(["split", "label", "method", "groups", "files", "crops", "usable", "balanced"], counts, left=3),
    ]
    if summary.skipped:
        reasons = Counter(skipped.reason for skipped in summary.skipped)
        lines += ["## Left out", ""]
        lines += [f"- {count} × {reason}" for reason, count in reasons.most_common()]
        rows = ((s.name, f"{s.reason}: {s.detail}" if s.detail else s.reason) for s in summary.skipped)
        lines += ["", *markdown_table(["file", "why"], rows, left=2)]
    if summary.notes:
        lines += ["## Notes", "", *(f"- {markdown_cell(note)}" for note in summary.notes)]
    return "\n".join(lines).rstrip("\n") + "\n"


def markdown_cell(text: str) -> str:
    """Escape text that would break a table's row."""
    return " ".join(text.replace("|", "\\|").split())


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a table, the first columns aligned to the left, and an empty line."""
    first, *others = ("| " + " | ".join(map(markdown_cell, cells)) + " |" for cells in (heads, *rows))
    return [first, "|" + "---|" * left + "---:|" * (len(heads) - left), *others, ""]


def contact_sheet(table: pd.DataFrame, folder: Path) -> bytes:
    """Draw balanced crops as a JPEG, one row for each split, label and method; empty for a table without any."""
    kinds = _kinds(table[table["balanced"].eq(True)])
    kinds = spread(kinds, min(SHEET_ROWS, len(kinds)))
    if not kinds:
        return b""
    sheet = np.full((len(kinds) * _PITCH, _LABEL_WIDTH + SHEET_COLUMNS * _PITCH, 3), 255, np.uint8)
    for row, ((split, label, method), rows) in enumerate(kinds):
        top = row * _PITCH
        write(sheet, f"{split} · {label}", (8, top + CELL // 2 - 20), _LETTERS, INK)
        write(sheet, method.encode(errors="replace").decode()[:28], (8, top + CELL // 2), _LETTERS, INK)
        # From the middle of each video, and evenly over the videos.
        middles = [rows["crop"].loc[video[len(video) // 2]] for video in rows.groupby("video").groups.values()]
        for column, crop in enumerate(spread(middles, min(SHEET_COLUMNS, len(middles)))):
            left = _LABEL_WIDTH + column * _PITCH
            try:
                picture = cv2.resize(read_crop(folder / crop), (CELL, CELL), interpolation=cv2.INTER_AREA)
            except DataError:
                picture = np.full((CELL, CELL, 3), 200, np.uint8)
            sheet[top : top + CELL, left : left + CELL] = picture
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return data.tobytes()
