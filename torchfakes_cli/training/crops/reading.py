"""Crops as they are read back, and what their folder says of them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.crops.parts import SETTINGS_NAME

#: Larger pictures are no crops: ``prepare`` writes sides of a few hundred pixels.
MAX_SIDE = 8192
_PNG = b"\x89PNG\r\n\x1a\n"


def read_crop(path: Path) -> NDArray[np.uint8]:
    """Read a crop.

    Returns:
        S×S×3 uint8 RGB.

    Raises:
        DataError: it can't be read or isn't square.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", path=path) from error
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size and not _is_huge(data) else None
    except cv2.error:  # such as a header that claims a gigantic picture
        picture = None
    if picture is None or picture.shape[0] != picture.shape[1]:
        raise DataError("is not a square picture", path=path, advice="Run 'torchfakes prepare' again.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _is_huge(data: NDArray[np.uint8]) -> bool:
    """Whether a PNG's header, which gives its sides first, claims more pixels than are safe to decode."""
    head = data[:24].tobytes()
    sides = (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
    return head.startswith(_PNG) and max(sides) > MAX_SIDE


def recorded_margin(folder: Path) -> float:
    """The margin factor that a folder's crops were cut with, as ``prepare`` wrote it down.

    Raises:
        DataError: its record is missing or damaged.
    """
    path = folder / SETTINGS_NAME
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["settings"]["margin"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("is missing or damaged", path=path, advice="Run 'torchfakes prepare' again.") from error


def recorded_size(folder: Path) -> int:
    """The longest side in pixels of crops set for ``prepare``; its default where that isn't recorded."""
    try:
        return int(json.loads((folder / SETTINGS_NAME).read_text(encoding="utf-8"))["settings"]["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return PrepareConfig().size
