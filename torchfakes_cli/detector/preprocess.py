"""The one way from a crop to the network's input; scan, train, evaluate and explain all go through here."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: (x − MEAN) / SCALE is how facenet-pytorch's weights were trained ("fixed image standardisation").
MEAN = 127.5
SCALE = 128.0


def resize_crop(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring a crop to the network's size.

    Args:
        crop: H×W×3 uint8, stretched where it isn't square.
        size: side of the result in pixels.

    Returns:
        size×size×3 uint8: area-averaged when it shrinks, bilinear when it grows.
    """
    height, width = crop.shape[:2]
    if height == width == size:
        return crop
    interpolation = cv2.INTER_AREA if max(height, width) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), np.uint8)


def box_part(crop: NDArray[np.uint8], width: float, height: float) -> NDArray[np.uint8]:
    """What a crop in the box's own shape would have shown, from a square one with the same margin.

    Args:
        crop: S×S×3 uint8.
        width: of the face's box; its unit doesn't matter.
        height: of the face's box.

    Returns:
        H×W×3 uint8, a view.
    """
    side, longest = crop.shape[0], max(width, height)
    kept_x, kept_y = (max(1, round(side * length / longest)) for length in (width, height))
    left, top = (side - kept_x) // 2, (side - kept_y) // 2
    return crop[top : top + kept_y, left : left + kept_x]


def standardise(pictures: Tensor, mean: float = MEAN, scale: float = SCALE, size: int | None = None) -> Tensor:
    """Turn N×S×S×3 uint8 into N×3×size×size float32, channels last in memory, on the same device.

    Args:
        pictures: of the crops' size.
        mean: subtracted from each value, 0 to 255.
        scale: each value is divided by it after that.
        size: side of the network's input in pixels, reached bilinearly; None for S.
    """
    inputs = pictures.permute(0, 3, 1, 2).float().sub_(mean).div_(scale)
    if size is None or size == inputs.shape[-1]:
        return inputs
    enlarged = functional.interpolate(inputs, size=(size, size), mode="bilinear", align_corners=False)
    return enlarged.contiguous(memory_format=torch.channels_last)


def to_input(
    crops: Sequence[NDArray[np.uint8]], size: int, mean: float = MEAN, scale: float = SCALE, crop_size: int = 0
) -> Tensor:
    """Turn crops into the network's input.

    Args:
        crops: H×W×3 uint8 RGB each; sizes may differ.
        size: side of the network's input in pixels.
        mean: subtracted from each value, 0 to 255.
        scale: each value is divided by it after that.
        crop_size: side that crops are brought to first, before they are enlarged to the network's; 0 for no such step.

    Returns:
        N×3×size×size float32, channels last in memory.
    """
    pictures = np.stack([resize_crop(crop, crop_size or size) for crop in crops])
    return standardise(torch.from_numpy(pictures), mean, scale, size)
