"""A folder of crops as it is read: its manifest, pictures and settings, and marks of them in checkpoints.

The manifest has one row for every crop, so that thresholds can change without extracting faces again. Columns of
``manifest.csv``:

- ``crop``: path of the picture below the manifest's folder, with ``/``.
- ``split``, ``label``, ``method``, ``group``, ``video``, ``source``: as in
  :class:`~torchfakes_cli.training.corpora.SourceVideo`.
- ``time_s``, ``frame``: time and number of the frame; a fake cropped with its original's boxes has the original's, so
  that pairs meet on (``source``, ``frame``, ``face``).
- ``face``: number of the person's track in its video, from 1.
- ``x1``, ``y1``, ``x2``, ``y2``: face in pixels of the upright frame; ``face_size``: its shorter side.
- ``confidence``: confidence of the face detector.
- ``sharpness``: variance of the Laplacian, as a scan measures it.
- ``novelty``: how much the crop adds to others of its track, in gray levels
  (:func:`~torchfakes_cli.training.crops.extract.novelties`); a fake cropped with its original's boxes has the
  original's.
- ``changed``: mean absolute difference to the original's face in gray levels; empty without an original.
- ``boxes_from``: ``own`` or ``original``.
- ``lx0``, ``ly0`` … ``lx4``, ``ly4``: landmarks in pixels of the crop's file.
- ``blurry``, ``small``, ``doubtful``, ``duplicate``: ``sharpness``, ``face_size``, ``confidence`` or ``novelty`` is
  below its threshold.
- ``balanced``: none of these holds, and the crop was chosen for a set with about as many reals as fakes.

Marks are short hashes of training groups and pictures in the header of a checkpoint, which reveal an overlap with later
data.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchfakes_cli.errors import DataError
from torchfakes_cli.faces.crops import is_blurry
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora.base import FAKE, REAL

MANIFEST_NAME, SETTINGS_NAME = "manifest.csv", "prepare.json"
LANDMARK_COLUMNS = tuple(f"l{axis}{number}" for number in range(5) for axis in "xy")
COLUMNS = (
    *("crop", "split", "label", "method", "group", "video", "source", "time_s", "frame", "face"),
    *("x1", "y1", "x2", "y2", "face_size", "confidence", "sharpness", "novelty", "changed", "boxes_from"),
    *LANDMARK_COLUMNS,
    *("blurry", "small", "doubtful", "duplicate", "balanced"),
)
#: Columns that exclude a crop.
FLAWS = ("blurry", "small", "doubtful", "duplicate")
#: Maximum side of a picture that is read; crops have a few hundred pixels.
MAX_SIDE = 8192

#: Relative difference between margins that the augmentation covers many times over.
_MARGIN_TOLERANCE = 0.1
_TEXT_COLUMNS = ("crop", "split", "label", "method", "group", "video", "source", "boxes_from")
_PNG = b"\x89PNG\r\n\x1a\n"
#: Keys of the marks in the header of a checkpoint, in ``training``.
TRAINED_ON, PICTURES = "groups", "pictures"
#: Largest number of marks in a header: those with the smallest hashes stand for all.
MOST_MARKS = 4096
#: Bytes from the middle of a file that are hashed together with its size. In a compressed picture they suffice.
_PROBE = 4096


def build_manifest(rows: Iterable[Mapping[str, object]], config: PrepareConfig) -> pd.DataFrame:
    """Build the table in a repeatable order."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table = table.sort_values(["split", "label", "method", "video", "frame", "face"], ignore_index=True)
    table["blurry"] = is_blurry(table["sharpness"].astype(float), config.faces.blur_threshold)
    thresholds = {
        "small": ("face_size", config.faces.smallest),
        "doubtful": ("confidence", config.faces.confidence),
        "duplicate": ("novelty", config.duplicate_threshold),
    }
    for flaw, (column, threshold) in thresholds.items():
        table[flaw] = table[column].astype(float) < threshold
    table["balanced"] = balance(table) if config.balance else usable(table)
    return table


def usable(table: pd.DataFrame) -> pd.Series[bool]:
    """Return, for each row, whether the crop has no flaw."""
    return ~table[list(FLAWS)].eq(True).any(axis=1)


def balance(table: pd.DataFrame) -> pd.Series[bool]:
    """Choose flawless crops so that each split has about as many reals as fakes.

    The more frequent label loses frames, from the longest videos first and evenly over their length. Every person of
    every video keeps a frame.
    """
    chosen = pd.Series(False, index=table.index, dtype=bool)
    for _, rows in table[usable(table)].groupby("split"):
        by_label = {label: rows[rows["label"] == label] for label in (REAL, FAKE)}
        target = min(len(side) for side in by_label.values())
        for side in by_label.values():
            people = [list(rows) for rows in side.groupby(["video", "face"]).groups.values()]
            quotas = _quotas([len(person) for person in people], target or len(side))
            evenly = (spread(person, quota) for person, quota in zip(people, quotas, strict=True))
            chosen.loc[list(chain.from_iterable(evenly))] = True
    return chosen


def _quotas(sizes: list[int], target: int) -> list[int]:
    """Reduce sizes to a common maximum so that they sum up to ``target``, or as near as at least one each allows."""
    if sum(sizes) <= target:
        return sizes
    height = 1
    while sum(min(size, height + 1) for size in sizes) <= target:
        height += 1
    # The first of the longest get one more, until the target is reached.
    longest = [position for position, size in enumerate(sizes) if size > height]
    further = set(longest[: max(0, target - sum(min(size, height) for size in sizes))])
    return [min(size, height) + (position in further) for position, size in enumerate(sizes)]


def spread(items: list[Any], count: int) -> list[Any]:
    """Return ``count`` of the items, spread evenly and away from the ends."""
    positions = ((np.arange(count) + 0.5) * len(items) / count).astype(int)
    return [items[position] for position in positions]


def read_manifest(folder: Path) -> pd.DataFrame:
    """Read the manifest of a folder of crops; text is never missing, ``changed`` may be NaN.

    Raises:
        DataError: there is none, or it lacks columns.
    """
    path = folder / MANIFEST_NAME
    again = "Run 'torchfakes prepare' again."
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
        raise DataError(f"is no manifest ({error})", path=path, advice=again) from error
    if missing := [column for column in COLUMNS if column not in table]:
        raise DataError(f"lacks the columns {', '.join(missing)}", path=path, advice=again)
    return table


def read_crop(path: Path) -> NDArray[np.uint8]:
    """Read a crop, S×S×3 uint8 RGB.

    Raises:
        DataError: it can't be read or isn't square.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", path=path) from error
    # The header of a PNG, which gives its sides first, may claim more pixels than are safe to decode.
    head = data[:24].tobytes()
    sides = (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
    huge = head.startswith(_PNG) and max(sides) > MAX_SIDE
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size and not huge else None
    except cv2.error:  # such as a header that claims a gigantic picture
        picture = None
    if picture is None or picture.shape[0] != picture.shape[1]:
        raise DataError("is not a square picture", path=path, advice="Run 'torchfakes prepare' again.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def recorded_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that a folder's crops were made with, such as ``margin`` and ``size``.

    Raises:
        DataError: they are missing or damaged.
    """
    path = folder / SETTINGS_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
        return {**found, "margin": float(found["margin"]), "size": int(found.get("size", PrepareConfig().size))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("is missing or damaged", path=path, advice="Run 'torchfakes prepare' with --force.") from error


def same_margin(one: float, other: float) -> bool:
    """Return True if crops with one margin can be used where the other is expected."""
    return math.isclose(one, other, rel_tol=_MARGIN_TOLERANCE)


def picture_marks(folder: Path, crops: Iterable[str]) -> dict[str, str]:
    """Hash the files of crops.

    Returns:
        Marks by path, for the crops that can be read and aren't empty.
    """
    found = {}
    for crop in crops:
        try:
            with (folder / crop).open("rb") as handle:
                size = handle.seek(0, 2)
                handle.seek(max(0, (size - _PROBE) // 2))
                content = handle.read(_PROBE)
        except OSError:
            continue  # counted when it is drawn
        if size:
            found[crop] = hashlib.blake2b(b"%d:%b" % (size, content), digest_size=6).hexdigest()
    return found


def kept_marks(marks: Iterable[str]) -> list[str]:
    """The marks that a header keeps."""
    return sorted(set(marks))[:MOST_MARKS]


def known_pictures(training: object, marks: Iterable[str]) -> int:
    """Count the pictures (by their marks) that a checkpoint, its start or its teacher was trained on.

    ``training`` is that of a header; checkpoints of other programs, and older ones, know no pictures. Of a checkpoint
    with more than ``MOST_MARKS`` training pictures, only a share is recognized.
    """
    known = recorded_marks(training, PICTURES)
    return sum(mark in known for mark in marks)


def group_marks(groups: Iterable[str]) -> list[str]:
    """Return the marks of groups that a header keeps: short hashes, because a checkpoint shouldn't list people."""
    return kept_marks(_group_mark(name, 6) for name in set(groups))


def _group_mark(name: str, size: int) -> str:
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=size).hexdigest()


def known_groups(record: object, groups: Iterable[str]) -> int:
    """Count the groups, by their names, in a record of a header and in those of the start and the teacher.

    Of a record of more than ``MOST_MARKS`` groups, only a share is recognized.
    """
    known = recorded_marks(record, TRAINED_ON)
    # Checkpoints of earlier versions have marks of four bytes, which collide by chance in large corpora.
    return sum(_group_mark(name, 6) in known or _group_mark(name, 4) in known for name in set(groups))


def recorded_marks(record: Any, key: str) -> set[str]:
    """Return the marks in a record of a header, and in the records of the start and the teacher."""
    if not isinstance(record, dict):
        return set()
    marks = record.get(key)
    known = {mark for mark in marks if isinstance(mark, str)} if isinstance(marks, list) else set()
    earlier = (record.get(name) for name in ("start", "teacher"))
    return known.union(*(recorded_marks(each.get("training"), key) for each in earlier if isinstance(each, dict)))
