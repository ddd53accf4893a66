"""Crops as training hands them on: drawn, and put together for one update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchfakes_cli.errors import DataError

#: What is drawn is drawn again this often when a crop can't be read, before training gives up.
MAX_REDRAWS = 20
#: Side of the masks that tell where a picture was manipulated, in places.
MASK_SIZE = 16


class Drawn(NamedTuple):
    """What one number of a dataset gave: a couple of a real face and a fake one, or a single crop.

    Attributes:
        pictures: K×S×S×3 uint8; of a couple the real face first.
        labels: K×1 float32, fake is 1.
        masks: K×M×M float32, how much of each place was manipulated, from 0 to 1; NaN where nobody knows.
        passed_over: crops that couldn't be read on the way to it.
        error: why there is none; the pictures are then black.
    """

    pictures: Tensor
    labels: Tensor
    masks: Tensor
    passed_over: int
    error: DataError | None


class Batch(NamedTuple):
    """What was drawn for one update.

    Attributes:
        pictures: N×S×S×3 uint8, couples side by side.
        labels: N×1 float32, fake is 1.
        masks: N×M×M float32, how much of each place was manipulated, from 0 to 1; NaN where nobody knows.
        passed_over: crops that couldn't be read on the way to it.
        error: the first error among what was drawn.
    """

    pictures: Tensor
    labels: Tensor
    masks: Tensor
    passed_over: int
    error: DataError | None


def collate(drawn: Sequence[Drawn]) -> Batch:
    """Puts together what was drawn for one update."""
    # PyTorch would copy with threads of its own, which go on spinning for a while and hold up those that draw.
    pictures = np.concatenate([one.pictures.numpy() for one in drawn])
    return Batch(
        pictures=torch.from_numpy(pictures),
        labels=torch.cat([one.labels for one in drawn]),
        masks=torch.cat([one.masks for one in drawn]),
        passed_over=sum(one.passed_over for one in drawn),
        error=next((one.error for one in drawn if one.error), None),
    )


def nothing_drawn(labels: Tensor, size: int, error: DataError | None) -> Drawn:
    """What stands for crops that can't be read: an exception would lose its words on the way out of a process."""
    pictures = torch.zeros(len(labels), size, size, 3, dtype=torch.uint8)
    return Drawn(pictures, labels, unknown_masks(labels), MAX_REDRAWS, error)


def unknown_masks(labels: Tensor) -> Tensor:
    """Masks for single crops: nothing of a real one was manipulated, and what of a fake one isn't known."""
    return torch.where(labels > 0.5, torch.nan, 0.0)[..., None].expand(-1, MASK_SIZE, MASK_SIZE)
