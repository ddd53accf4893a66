"""Crop and pictures for the calibration and comparison of an export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.preprocess import box_part, resize_crop
from torchfakes_cli.errors import DataError
from torchfakes_cli.faces.crops import crop_face
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.training.corpora.base import FAKE
from torchfakes_cli.training.crops.manifest import read_crop, read_manifest, recorded_settings, usable

#: Maximum numbers of crops for calibration and for comparison. More calibration crops had no measurable effect.
CALIBRATING, COMPARED = 128, 400
#: Maximum number of pictures searched for faces.
PICTURES = 100
#: Number of random crops.
RANDOM = 8
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Samples:
    """Face crops at the detector's input size.

    Attributes:
        calibrating: crops for calibration, S×S×3 uint8 RGB each.
        compared: crops for comparison in the same format, of other people if a manifest separates people.
        fake: labels of the crops for comparison, True for fake; None if unknown.
    """

    calibrating: list[Pixels]
    compared: list[Pixels]
    fake: NDArray[np.bool_] | None = None


def prepared_crops(folder: Path, header: Header) -> Samples:
    """Read crops created by ``prepare``: the validation split for calibration, the test split for comparison.

    If one of these splits is empty, all crops are used, and every second group is for calibration.

    Raises:
        DataError: there are too few crops, or their margin differs from the detector's.
    """
    table = read_manifest(folder)
    table = table[usable(table)]
    margin = recorded_settings(folder)["margin"]
    if abs(margin - header.margin) > 1e-6:
        cause = f"was cut with a margin of {margin:g}, and {header.name} expects {header.margin:g}"
        raise DataError(cause, path=folder, advice=f"Run 'torchfakes prepare' with --margin {header.margin:g}.")
    calibrating, compared = table[table["split"] == "val"], table[table["split"] == "test"]
    if calibrating.empty or compared.empty:
        second = table["group"].map({group: n % 2 for n, group in enumerate(sorted(set(table["group"])))}) == 1
        calibrating, compared = table[second], table[~second]
    if calibrating.empty or compared.empty:
        raise DataError("holds too few crops: those of two groups are needed", path=folder)
    rows, others = _evenly(list(calibrating.index), CALIBRATING), _evenly(list(compared.index), COMPARED)
    fake = (table.loc[others, "label"] == FAKE).to_numpy(bool)
    return Samples(_read(folder, table.loc[rows], header), _read(folder, table.loc[others], header), fake)


def faces_of(pictures: Iterable[Pixels], header: Header, faces: FaceDetector) -> Samples:
    """Crop the faces in pictures, alternately for calibration and comparison.

    Raises:
        DataError: fewer than two pictures contain a face.
    """
    found = []
    for picture in pictures:
        crops = [crop_face(picture, face.box, header.margin, header.crop_shape) for face in faces.detect([picture])[0]]
        if crops:
            found.append([_ready(crop, header) for crop in crops])
    if len(found) < 2:
        raise DataError("the pictures show too few faces: two pictures with a face are needed")
    parts = [[crop for crops in found[start::2] for crop in crops] for start in (0, 1)]
    return Samples(_evenly(parts[0], CALIBRATING), _evenly(parts[1], COMPARED))


def read_pictures(folder: Path) -> list[Pixels]:
    """Read the pictures below a folder, H×W×3 uint8 RGB, upright; at most ``PICTURES``, evenly spread.

    Raises:
        DataError: there are no pictures, or one can't be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"holds no pictures ({', '.join(SUFFIXES)})", path=folder)
    pictures = []
    for path in _evenly(paths, PICTURES):
        data = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
        if picture is None:
            raise DataError("can't be read as a picture", path=path)
        pictures.append(np.asarray(picture, np.uint8))
    return pictures


def random_crops(width: int, height: int, seed: int = 0) -> list[Pixels]:
    """Create smooth random pictures from dark to bright; pure noise is too unlike the networks' training data."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (RANDOM, 3, 6, 6)).astype(np.float32))
    smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).numpy()
    noisy = smooth * np.linspace(0.4, 1.3, RANDOM)[:, None, None, None] + rng.normal(0, 6, smooth.shape)
    return list(np.ascontiguousarray(noisy.clip(0, 255).transpose(0, 2, 3, 1), np.uint8))


def _read(folder: Path, rows: pd.DataFrame, header: Header) -> list[Pixels]:
    crops = []
    for name, x1, y1, x2, y2 in rows[["crop", "x1", "y1", "x2", "y2"]].itertuples(index=False):
        crop = read_crop(folder / name)
        crops.append(_ready(box_part(crop, x2 - x1, y2 - y1) if header.crop_shape == "box" else crop, header))
    return crops


def _ready(crop: Pixels, header: Header) -> Pixels:
    return resize_crop(crop, header.picture_size)


def _evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` of the items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]
