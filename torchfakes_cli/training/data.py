"""Crops as training gets them from disk and hands them on: read, drawn, put together for one update."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.parts import SETTINGS_NAME

#: What is drawn is drawn again this often when a crop can't be read, before training gives up.
MAX_REDRAWS = 20
#: Larger pictures are no crops: ``prepare`` writes sides of a few hundred pixels.
MAX_SIDE = 8192
_PNG = b"\x89PNG\r\n\x1a\n"


class Drawn(NamedTuple):
    """What one number of a dataset gave: a couple of a real face and a fake one, or a single crop.

    Attributes:
        pictures: K×S×S×3 uint8; of a couple the real face first.
        labels: K×1 float32, fake is 1.
        passed_over: crops that couldn't be read on the way to it.
        error: why there is none; the pictures are then black.
    """

    pictures: Tensor
    labels: Tensor
    passed_over: int
    error: DataError | None


class Batch(NamedTuple):
    """What was drawn for one update.

    Attributes:
        pictures: N×S×S×3 uint8, couples side by side.
        labels: N×1 float32, fake is 1.
        passed_over: crops that couldn't be read on the way to it.
        error: the first error among what was drawn.
    """

    pictures: Tensor
    labels: Tensor
    passed_over: int
    error: DataError | None


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
    """Whether a PNG's header, where its sides stand first, claims more pixels than anyone should unpack."""
    head = data[:24].tobytes()
    sides = (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
    return head.startswith(_PNG) and max(sides) > MAX_SIDE


def collate(drawn: Sequence[Drawn]) -> Batch:
    """Puts together what was drawn for one update."""
    return Batch(
        pictures=torch.cat([one.pictures for one in drawn]),
        labels=torch.cat([one.labels for one in drawn]),
        passed_over=sum(one.passed_over for one in drawn),
        error=next((one.error for one in drawn if one.error), None),
    )


def nothing_drawn(labels: Tensor, size: int, error: DataError | None) -> Drawn:
    """What stands for crops that can't be read: an exception would lose its words on the way out of a process."""
    return Drawn(torch.zeros(len(labels), size, size, 3, dtype=torch.uint8), labels, MAX_REDRAWS, error)


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
