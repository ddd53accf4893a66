"""A picture of some crops of every kind, for someone to look at before they train."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.training.corpora import FAKE, SPLITS
from torchfakes_cli.training.crops.parts import write_atomically

if TYPE_CHECKING:
    import pandas as pd

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
