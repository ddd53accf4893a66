"""The one way from a crop to the network's input; scan, train, evaluate and explain all go through here."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: (x − MEAN) / SCALE is how facenet-pytorch's weights were trained ("fixed image standardisation").
MEAN = 127.5
SCALE = 128.0


def resize_crop(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring a crop to the network's size.

    Args:
        crop: S×S×3 uint8.
        size: side of the result in pixels.

    Returns:
        size×size×3 uint8: area-averaged when it shrinks, bilinear when it grows.
    """
    if crop.shape[0] == size:
        return crop
    interpolation = cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), np.uint8)


def standardise(pictures: Tensor, mean: float = MEAN, scale: float = SCALE) -> Tensor:
    """Turn N×S×S×3 uint8 into N×3×S×S float32, channels last in memory, on the same device."""
    return pictures.permute(0, 3, 1, 2).float().sub_(mean).div_(scale)


def to_input(crops: Sequence[NDArray[np.uint8]], size: int, mean: float = MEAN, scale: float = SCALE) -> Tensor:
    """Turn crops into the network's input.

    Args:
        crops: S×S×3 uint8 RGB each; sizes may differ.
        size: side of the network's input in pixels.
        mean: subtracted from each value, 0 to 255.
        scale: each value is divided by it after that.

    Returns:
        N×3×size×size float32, channels last in memory.
    """
    return standardise(torch.from_numpy(np.stack([resize_crop(crop, size) for crop in crops])), mean, scale)
