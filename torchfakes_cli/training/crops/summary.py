"""What a run of ``prepare`` has to tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.training.corpora import FAKE, SPLITS, Skipped
from torchfakes_cli.training.crops.manifest import MANIFEST_NAME, usable
from torchfakes_cli.training.crops.parts import REPORT_NAME, SHEET_NAME

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Count:
    """What one split has of one collection or method.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        label: ``real`` or ``fake``.
        method: of the fakes, or the collection of genuine files.
        groups: people, or pieces of footage.
        videos: files that gave crops.
        crops: all of them.
        usable: those that no threshold speaks against.
        balanced: those chosen for a balanced set.
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
    """How a run ended.

    Attributes:
        out: folder of the crops.
        layout: of the corpus, as recognised.
        counts: by split, label and method.
        skipped: files that gave no crops, and why.
        notes: plain sentences on what is missing or doubtful.
        flaws: what speaks against crops, with the number of crops.
        unchanged: faces of fakes left out since they are their original's.
        damaged: sampled frames left out since they are damaged.
        videos_prepared: files worked on in this run.
        videos_ready: files that an earlier run had finished.
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
        """The table of crops."""
        return self.out / MANIFEST_NAME

    @property
    def report(self) -> Path:
        """Counts, and what was left out and why, as text."""
        return self.out / REPORT_NAME

    @property
    def contact_sheet(self) -> Path:
        """A picture of some crops of every kind."""
        return self.out / SHEET_NAME

    @property
    def crops(self) -> int:
        """Crops in the manifest."""
        return sum(count.crops for count in self.counts)


def count_crops(table: pd.DataFrame) -> tuple[Count, ...]:
    """Count a manifest by split, label and method."""
    counts = []
    for key, rows in table.assign(usable=usable(table)).groupby(["split", "label", "method"]):
        split, label, method = (str(value) for value in key)
        count = Count(
            split=split,
            label=label,
            method=method,
            groups=rows["group"].nunique(),
            videos=rows["video"].nunique(),
            crops=len(rows),
            usable=int(rows["usable"].sum()),
            balanced=int(rows["balanced"].sum()),
        )
        counts.append(count)
    return tuple(sorted(counts, key=lambda count: (SPLITS.index(count.split), count.label == FAKE, count.method)))


def report_text(summary: PrepareSummary) -> str:
    """Counts, what was left out and why, and notes, as Markdown."""
    flaws = ", ".join(f"{count} {flaw}" for flaw, count in summary.flaws)
    counts = (
        (c.split, c.label, _cell(c.method), c.groups, c.videos, c.crops, c.usable, c.balanced) for c in summary.counts
    )
    lines = [
        "# Crops",
        "",
        f"Corpus: {summary.layout}. {summary.crops} crops, of which {flaws}; {summary.unchanged} faces of fakes left "
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
    """Text that can't break a table's row."""
    return " ".join(text.replace("|", "\\|").split())
