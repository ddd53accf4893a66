"""Preprocessing: turn crops into the network's input, in the same way for scan, train, evaluate and explain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: (x − MEAN) / SCALE is the "fixed image standardisation" of facenet-pytorch's training.
MEAN = 127.5
SCALE = 128.0
#: Side in pixels of the blocks of a coarse copy: those of JPEG and of many video codecs.
BLOCK = 8


def resize_crop(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a crop to the network's size.

    Args:
        crop: H×W×3 uint8, which is stretched if it isn't square.
        size: side of the result in pixels.

    Returns:
        size×size×3 uint8, reduced by area averaging or enlarged bilinearly.
    """
    height, width = crop.shape[:2]
    if height == width == size:
        return crop
    interpolation = cv2.INTER_AREA if max(height, width) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), np.uint8)


def box_part(crop: NDArray[np.uint8], width: float, height: float) -> NDArray[np.uint8]:
    """Cut a crop in the shape of the face's box out of a square crop with the same margin.

    Args:
        crop: S×S×3 uint8.
        width: width of the face's box, in any unit.
        height: height of the face's box, in the same unit.

    Returns:
        H×W×3 uint8 view of the crop.
    """
    side, longest = crop.shape[0], max(width, height)
    kept_x, kept_y = (max(1, round(side * length / longest)) for length in (width, height))
    left, top = (side - kept_x) // 2, (side - kept_y) // 2
    return crop[top : top + kept_y, left : left + kept_x]


def standardise(pictures: Tensor, mean: float = MEAN, scale: float = SCALE, size: int | None = None) -> Tensor:
    """Turn N×S×S×3 uint8 into N×3×size×size float32, channels last in memory, on the same device.

    Args:
        pictures: resized crops.
        mean: value subtracted from each RGB value (0 to 255).
        scale: divisor of the difference.
        size: side of the network's input in pixels, to which crops are enlarged bilinearly; None for S.
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
        crops: crops of H×W×3 uint8 RGB; sizes may differ.
        size: side of the network's input in pixels.
        mean: value subtracted from each RGB value (0 to 255).
        scale: divisor of the difference.
        crop_size: side to which crops are resized before they are enlarged to ``size``; 0 for no such step.

    Returns:
        N×3×size×size float32, channels last in memory.
    """
    pictures = np.stack([resize_crop(crop, crop_size or size) for crop in crops])
    return standardise(torch.from_numpy(pictures), mean, scale, size)


def coarse(inputs: Tensor) -> Tensor:
    """Return a copy without fine detail, N×3×S×S: blocks of 8×8 pixels keep the lowest cosine terms.

    These are the mean, half a wave across and half a wave down, of the cosine transform of JPEG (ITU-T T.81, A.3.3):
    about what strong compression leaves.
    """
    side = inputs.shape[-1]
    angles = (torch.arange(BLOCK) + 0.5) * (math.pi / BLOCK)
    flat, wave = torch.full((BLOCK,), BLOCK**-0.5), torch.cos(angles) * (2 / BLOCK) ** 0.5
    pairs = ((flat, flat), (flat, wave), (wave, flat))
    filters = torch.stack([torch.outer(down, across) for down, across in pairs])[:, None].repeat(3, 1, 1, 1).to(inputs)
    padded = functional.pad(inputs, (0, -side % BLOCK) * 2, mode="replicate")
    found = functional.conv2d(padded, filters, stride=BLOCK, groups=3)
    return functional.conv_transpose2d(found, filters, stride=BLOCK, groups=3)[..., :side, :side]


def relative_logits(network: Callable[[Tensor], Tensor], inputs: Tensor, weight: float) -> Tensor:
    """Score a batch, N×1: the network's logits, less ``weight`` times those of coarse copies.

    The copy keeps the person, the light and the framing, and loses what a generator left in the fine detail:
    subtracting its logit reduces the influence of the former.
    """
    logits = network(inputs)
    if not weight:
        return logits
    return logits - weight * network(coarse(inputs).contiguous(memory_format=torch.channels_last))
