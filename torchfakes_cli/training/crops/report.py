"""Results of ``prepare``: summary, report and contact sheet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from torchfakes_cli.errors import DataError
from torchfakes_cli.report.drawing import INK, write
from torchfakes_cli.training.corpora import FAKE, SPLITS, Skipped
from torchfakes_cli.training.crops.manifest import MANIFEST_NAME, read_crop, spread, usable
from torchfakes_cli.training.crops.parts import REPORT_NAME, SHEET_NAME

if TYPE_CHECKING:
    import pandas as pd

#: Crops per row of the contact sheet, and their side in pixels.
SHEET_COLUMNS, CELL = 10, 96
_PITCH = CELL + 2
_LABEL_WIDTH = 240
_LETTERS = 14


@dataclass(frozen=True, slots=True)
class Count:
    """Counts of one collection or method in one split.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        label: ``real`` or ``fake``.
        method: method of the fakes, or collection of the genuine files.
        groups: number of people or pieces of footage.
        videos: number of files with crops.
        crops: number of crops.
        usable: number of crops without a flaw.
        balanced: number of crops chosen for a balanced set.
    """

    split: str
    label: str
    method: str
    groups: int
    videos: int
    crops: int
    usable: int
    balanced: int


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
            split=split,
            label=label,
            method=method,
            groups=rows["group"].nunique(),
            videos=rows["video"].nunique(),
            crops=len(rows),
            usable=int(usable(rows).sum()),
            balanced=int(rows["balanced"].sum()),
        )
        for (split, label, method), rows in _kinds(table)
    )


def report_text(summary: PrepareSummary) -> str:
    """Return counts, what was left out and why, and notes, as Markdown."""
    flaws = ", ".join(f"{count} {flaw}" for flaw, count in summary.flaws)
    counts = (
        (c.split, c.label, _cell(c.method), c.groups, c.videos, c.crops, c.usable, c.balanced) for c in summary.counts
    )
    lines = [
        "# Crops",
        "",
        f"Corpus: {summary.layout}. {summary.crops} crops, {flaws} among them; {summary.unchanged} faces of fakes left "
        f"out since they are their original's, {summary.damaged} frames since they are damaged.",
        "",
        f"![Some crops of every kind]({SHEET_NAME})",
        "",
        "| split | label | method | groups | files | crops | usable | balanced |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {' | '.join(map(str, count))} |" for count in counts]
    if summary.skipped:
        reasons = Counter(skipped.reason for skipped in summary.skipped)
        lines += ["", "## Left out", ""]
        lines += [f"- {count} × {reason}" for reason, count in reasons.most_common()]
        lines += ["", "| file | why |", "|---|---|"]
        lines += [f"| {_cell(s.name)} | {_cell(s.reason)} |" for s in summary.skipped]
    if summary.notes:
        lines += ["", "## Notes", "", *(f"- {_cell(note)}" for note in summary.notes)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Return text that can't break a table's row."""
    return " ".join(text.replace("|", "\\|").split())


def contact_sheet(table: pd.DataFrame, folder: Path) -> bytes:
    """Draw balanced crops as a JPEG, one row for each split, label and method; empty for a table without any.

    Args:
        table: manifest.
        folder: folder of the manifest.
    """
    kinds = _kinds(table[table["balanced"].eq(True)])
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
