"""The table of crops: one row a crop, every crop, so that thresholds can change without cutting faces again.

Columns of ``manifest.csv``:

- ``crop``: path of the picture below the manifest's folder, with ``/``.
- ``split``, ``label``, ``method``, ``group``, ``video``, ``source``: as in
  :class:`~torchfakes_cli.training.corpora.SourceVideo`.
- ``time_s``, ``frame``: where in its video; a fake that was cut with its original's boxes carries the original's, so
  that pairs meet on (``source``, ``frame``, ``face``).
- ``face``: number of the person's track in its video, from 1.
- ``x1``, ``y1``, ``x2``, ``y2``: the face in pixels of the upright frame; ``face_size``: its shorter side.
- ``confidence``: the face detector's.
- ``sharpness``: variance of the Laplacian, as a scan measures it.
- ``novelty``: how much the crop adds to others of its track, in grey levels
  (:func:`~torchfakes_cli.training.crops.novelty.novelties`); a fake that was cut with its original's boxes carries the
  original's.
- ``changed``: mean absolute difference to the original's face in grey levels; empty where there is no original.
- ``boxes_from``: ``own`` or ``original``.
- ``lx0``, ``ly0`` … ``lx4``, ``ly4``: the landmarks in pixels of the crop's file.
- ``blurry``, ``small``, ``doubtful``, ``duplicate``: ``sharpness``, ``face_size``, ``confidence`` or ``novelty`` lies
  below the threshold that was asked for.
- ``balanced``: nothing of this holds, and the crop was chosen for a set in which reals and fakes are about as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from torchfakes_cli.errors import DataError
from torchfakes_cli.records import Box, Point
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora import FAKE, REAL

MANIFEST_NAME = "manifest.csv"
LANDMARK_COLUMNS = tuple(f"l{axis}{number}" for number in range(5) for axis in "xy")
COLUMNS = (
    *("crop", "split", "label", "method", "group", "video", "source", "time_s", "frame", "face"),
    *("x1", "y1", "x2", "y2", "face_size", "confidence", "sharpness", "novelty", "changed", "boxes_from"),
    *LANDMARK_COLUMNS,
    *("blurry", "small", "doubtful", "duplicate", "balanced"),
)
#: Share of the smallest face that a box may measure: boxes are tighter in some frames than in others.
SIZE_TOLERANCE = 0.8
#: What speaks against a crop.
FLAWS = ("blurry", "small", "doubtful", "duplicate")
_TEXT_COLUMNS = ("crop", "split", "label", "method", "group", "video", "source", "boxes_from")


@dataclass(frozen=True, slots=True)
class CropRow:
    """One crop as it is written; the attributes are the columns described above."""

    crop: str
    time_s: float
    frame: int
    face: int
    box: Box
    confidence: float
    sharpness: float
    novelty: float
    changed: float | None
    boxes_from: str
    landmarks: tuple[Point, ...]

    def columns(self) -> dict[str, str | int | float | None]:
        """Cells by column, rounded to what can be measured."""
        x1, y1, x2, y2 = (round(value, 2) for value in self.box)
        points = (round(value, 2) for point in self.landmarks for value in point)
        return {
            "crop": self.crop,
            "time_s": round(self.time_s, 4),
            "frame": self.frame,
            "face": self.face,
            "x1": x1,
            "y1": y1,
            "x2": x2,
            "y2": y2,
            "face_size": round(min(x2 - x1, y2 - y1), 2),
            "confidence": round(self.confidence, 4),
            "sharpness": round(self.sharpness, 2),
            "novelty": round(self.novelty, 2),
            "changed": None if self.changed is None else round(self.changed, 3),
            "boxes_from": self.boxes_from,
            **dict(zip(LANDMARK_COLUMNS, points, strict=True)),
        }


def build_manifest(rows: Iterable[Mapping[str, object]], config: PrepareConfig) -> pd.DataFrame:
    """The whole table, in a repeatable order.

    Args:
        rows: cells by column, without flaws and ``balanced``.
        config: its thresholds decide these.
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table = table.sort_values(["split", "label", "method", "video", "frame", "face"], ignore_index=True)
    thresholds = {
        "blurry": ("sharpness", config.faces.blur_threshold),
        # The face detector lets a box be as much smaller, too.
        "small": ("face_size", SIZE_TOLERANCE * config.faces.min_face),
        "doubtful": ("confidence", config.faces.confidence),
        "duplicate": ("novelty", config.duplicate_threshold),
    }
    for flaw, (column, threshold) in thresholds.items():
        table[flaw] = table[column].astype(float) < threshold
    table["balanced"] = balance(table) if config.balance else usable(table)
    return table


def usable(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether nothing speaks against a crop, for each row."""
    return ~table[list(FLAWS)].eq(True).any(axis=1)


def balance(table: pd.DataFrame) -> pd.Series[bool]:
    """Choose flawless crops so that in each split reals and fakes are about as many.

    The more frequent label gives up frames, the longest videos first, each evenly over its length. Nobody is dropped:
    every person of every video keeps a frame.

    Returns:
        A boolean for each row.
    """
    chosen = pd.Series(False, index=table.index, dtype=bool)
    for _, rows in table[usable(table)].groupby("split"):
        by_label = {label: rows[rows["label"] == label] for label in (REAL, FAKE)}
        target = min(len(side) for side in by_label.values())
        for side in by_label.values():
            people = [list(rows) for rows in side.groupby(["video", "face"]).groups.values()]
            quotas = _quotas([len(person) for person in people], target or len(side))
            evenly = (_evenly(person, quota) for person, quota in zip(people, quotas, strict=True))
            chosen.loc[list(chain.from_iterable(evenly))] = True
    return chosen


def _quotas(sizes: list[int], target: int) -> list[int]:
    """Cut sizes to a common height so that they sum up to ``target``, or as near as one each allows."""
    if sum(sizes) <= target:
        return sizes
    height = 1
    while sum(min(size, height + 1) for size in sizes) <= target:
        height += 1
    quotas = [min(size, height) for size in sizes]
    spare = target - sum(quotas)
    for position, size in enumerate(sizes):
        if spare > 0 and size > height:
            quotas[position] += 1
            spare -= 1
    return quotas


def _evenly(items: list[int], count: int) -> list[int]:
    """``count`` of the items, spread evenly and away from the ends."""
    positions = ((np.arange(count) + 0.5) * len(items) / count).astype(int)
    return [items[position] for position in positions]


def read_manifest(folder: Path) -> pd.DataFrame:
    """Read the manifest of a folder of crops.

    Returns:
        The columns described above; text is never missing, ``changed`` may be NaN.

    Raises:
        DataError: there is none, or it lacks columns.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise DataError("holds no manifest.csv", path=folder, advice="Run 'torchfakes prepare' first.")
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(_TEXT_COLUMNS, str),
            keep_default_na=False,
            na_values={"changed": [""]},
            encoding_errors="surrogateescape",
        )
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"is no manifest ({error})", path=path, advice="Run 'torchfakes prepare' again.") from error
    if missing := [column for column in COLUMNS if column not in table]:
        raise DataError(f"lacks the columns {', '.join(missing)}", path=path, advice="Run 'torchfakes prepare' again.")
    return table
