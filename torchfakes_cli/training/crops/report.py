"""The summary of a run of ``prepare``: counts, a report, and a picture of some crops of every kind."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.training.corpora import FAKE, SPLITS, Skipped
from torchfakes_cli.training.crops.manifest import MANIFEST_NAME, usable
from torchfakes_cli.training.crops.parts import REPORT_NAME, SHEET_NAME, write_atomically

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
    """Text that can't break a table's row."""
    return " ".join(text.replace("|", "\\|").split())


#: Crops in a row, each of another video where there are as many.
COLUMNS = 10
#: Side of a crop on the sheet, in pixels.
CELL = 96
_GAP = 2
_DPI = 100
_LABEL_INCHES = 2.4


def write_contact_sheet(table: pd.DataFrame, folder: Path, path: Path) -> None:
    """Draw a grid with a row for each split, label and method; a face that a threshold speaks against isn't shown.

    Args:
        table: the manifest; an empty one gives no picture.
        folder: of the crops.
        path: of the JPEG.

    Raises:
        OSError: it can't be written.
    """
    rows = _rows(table)
    if not rows:
        return
    # Without pyplot: it would look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pitch = CELL + _GAP
    sheet = np.full((len(rows) * pitch, COLUMNS * pitch, 3), 255, np.uint8)
    for row, (_, crops) in enumerate(rows):
        for column, crop in enumerate(crops):
            cell = _thumbnail(folder / crop)
            sheet[row * pitch : row * pitch + CELL, column * pitch : column * pitch + CELL] = cell
    height, width = sheet.shape[0] / _DPI, sheet.shape[1] / _DPI
    figure = Figure(figsize=(width + _LABEL_INCHES, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((_LABEL_INCHES / (width + _LABEL_INCHES), 0, width / (width + _LABEL_INCHES), 1))
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([row * pitch + CELL / 2 for row in range(len(rows))], [name for name, _ in rows], fontsize=9)
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    data = BytesIO()
    with warnings.catch_warnings():
        # A folder's name may be written in letters that the font lacks.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(data, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 88})
    write_atomically(path, data.getvalue())


def _rows(table: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """The name of each row, and the crops in it."""
    shown = table[table["balanced"].eq(True)]
    found = []
    for key, rows in shown.groupby(["split", "label", "method"]):
        split, label, method = (str(value) for value in key)
        # From the middle of each video, and evenly over the videos.
        middles = [rows["crop"].loc[video[len(video) // 2]] for video in rows.groupby("video").groups.values()]
        count = min(COLUMNS, len(middles))
        places = ((np.arange(count) + 0.5) * len(middles) / count).astype(int)
        name = f"{split} · {label}\n{_plain(method)}"
        found.append(((SPLITS.index(split), label == FAKE, method), (name, [middles[place] for place in places])))
    return [row for _, row in sorted(found)]


def _plain(text: str, most: int = 28) -> str:
    """A folder's name that means nothing to the drawing library, which takes ``$`` for mathematics."""
    text = text.encode(errors="replace").decode().replace("$", r"\$")
    return text if len(text) <= most else text[: most - 1] + "…"


def _thumbnail(path: Path) -> NDArray[np.uint8]:
    """CELL×CELL×3 RGB; grey where the crop can't be read."""
    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, cv2.error):
        picture = None
    if picture is None:
        return np.full((CELL, CELL, 3), 200, np.uint8)
    return np.asarray(cv2.resize(picture, (CELL, CELL), interpolation=cv2.INTER_AREA), np.uint8)
