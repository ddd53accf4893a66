"""Damage that footage takes on its way to a detector, in five levels each.

The levels of blur, noise, resizing, blocks, saturation and contrast are those of DeeperForensics-1.0 (Jiang et al.,
CVPR 2020), with which LipForensics (Haliassos et al., CVPR 2021) and others measured robustness. They damaged whole
frames; here it is the crop, in its own pixels, before it becomes the network's input. H.264 spans FaceForensics++'s c23
and c40 and goes beyond (DeeperForensics-1.0 has CRF 30 to 40), JPEG what cameras and messengers write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from torchfakes_cli.errors import UsageError
from torchfakes_cli.video.encode import h264_round_trip

Picture = NDArray[np.uint8]


class Kind(StrEnum):
    """What is done to the crops."""

    H264 = "h264"
    JPEG = "jpeg"
    BLUR = "blur"
    NOISE = "noise"
    RESIZE = "resize"
    BLOCKS = "blocks"
    SATURATION = "saturation"
    CONTRAST = "contrast"


#: What each level is, from 1 to 5.
LEVELS: dict[Kind, tuple[float, ...]] = {
    Kind.H264: (23, 30, 35, 40, 45),
    Kind.JPEG: (90, 70, 50, 35, 20),
    Kind.BLUR: (7, 9, 13, 17, 21),
    Kind.NOISE: (0.001, 0.002, 0.005, 0.01, 0.05),
    Kind.RESIZE: (2, 3, 4, 5, 6),
    Kind.BLOCKS: (16, 32, 48, 64, 80),
    Kind.SATURATION: (0.4, 0.3, 0.2, 0.1, 0.0),
    Kind.CONTRAST: (0.85, 0.725, 0.6, 0.475, 0.35),
}
#: What the numbers above mean.
MEANING: dict[Kind, str] = {
    Kind.H264: "CRF of x264; a track's crops are one clip",
    Kind.JPEG: "quality",
    Kind.BLUR: "Gaussian kernel in pixels, of a sixth of that as standard deviation",
    Kind.NOISE: "variance of Gaussian noise in luma and chroma, of a range of 1",
    Kind.RESIZE: "factor of the reduction before a crop is enlarged again",
    Kind.BLOCKS: "grey squares, each a 32nd of the crop's side wide",
    Kind.SATURATION: "factor on the chroma",
    Kind.CONTRAST: "factor on all values",
}


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of damage at one level.

    Attributes:
        kind: of the damage.
        level: 0 (none) to 5.
    """

    kind: Kind
    level: int

    @property
    def value(self) -> float | None:
        """Value of the damage at a level; None for level 0."""
        return LEVELS[self.kind][self.level - 1] if self.level else None


def chosen_perturbations(kinds: Sequence[str], levels: Sequence[int]) -> tuple[Perturbation, ...]:
    """What a user asked for, in the order of ``Kind`` and from mild to severe.

    Args:
        kinds: names, or ``all``.
        levels: 1 to 5.

    Raises:
        UsageError: a name is unknown.
    """
    known = [kind.value for kind in Kind]
    if unknown := sorted(set(kinds) - {*known, "all"}):
        raise UsageError(f"there is no damage called {unknown[0]!r}", advice=f"Choose from {', '.join(known)} or all.")
    return tuple(
        Perturbation(kind, level)
        for kind in Kind
        if "all" in kinds or kind.value in kinds
        for level in sorted(set(levels))
    )


def perturb(clip: Sequence[Picture], perturbation: Perturbation, rng: np.random.Generator) -> list[Picture]:
    """Damage the crops of one person in one video.

    Args:
        clip: S×S×3 uint8 RGB each, in order of time; sizes may differ.
        perturbation: what to do; level 0 gives the crops as they are.
        rng: for noise and the places of blocks.

    Returns:
        As many crops, of the same sizes.
    """
    value = perturbation.value
    if value is None:
        return list(clip)
    if perturbation.kind is Kind.H264:
        return _as_video(clip, int(value))
    change = _CHANGES[perturbation.kind]
    return [change(crop, value, rng) for crop in clip]


def _as_video(clip: Sequence[Picture], crf: int) -> list[Picture]:
    """Crops of several sizes share a frame as large as the largest: none is resampled."""
    side = max(len(crop) for crop in clip)
    frames = [np.pad(crop, ((0, side - len(crop)), (0, side - len(crop)), (0, 0)), mode="edge") for crop in clip]
    decoded = h264_round_trip(frames, crf)
    return [np.ascontiguousarray(frame[: len(crop), : len(crop)]) for frame, crop in zip(decoded, clip, strict=True)]


def _jpeg(crop: Picture, quality: float, _: np.random.Generator) -> Picture:
    done, data = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    if picture is None:
        raise RuntimeError("OpenCV can't write JPEG")
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


def _blur(crop: Picture, kernel: float, _: np.random.Generator) -> Picture:
    return np.asarray(cv2.GaussianBlur(crop, (int(kernel), int(kernel)), kernel / 6), np.uint8)


def _noise(crop: Picture, variance: float, rng: np.random.Generator) -> Picture:
    channels = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
    noise = rng.standard_normal(channels.shape, np.float32) * np.float32(math.sqrt(variance))
    return _to_bytes(cv2.cvtColor(channels + noise, cv2.COLOR_YCrCb2RGB) * 255)


def _resize(crop: Picture, factor: float, _: np.random.Generator) -> Picture:
    side = len(crop)
    small = max(1, round(side / factor))
    reduced = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blocks(crop: Picture, count: float, rng: np.random.Generator) -> Picture:
    side = len(crop)
    width = max(1, round(side / 32))
    damaged = crop.copy()
    for row, column in rng.integers(0, side - width + 1, (int(count), 2)):
        damaged[row : row + width, column : column + width] = 128
    return damaged


def _saturation(crop: Picture, factor: float, _: np.random.Generator) -> Picture:
    channels = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
    channels[..., 1:] = 0.5 + factor * (channels[..., 1:] - 0.5)
    return _to_bytes(cv2.cvtColor(channels, cv2.COLOR_YCrCb2RGB) * 255)


def _contrast(crop: Picture, factor: float, _: np.random.Generator) -> Picture:
    return _to_bytes(factor * crop.astype(np.float32))


def _to_bytes(values: ArrayLike) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


_CHANGES: dict[Kind, Callable[[Picture, float, np.random.Generator], Picture]] = {
    Kind.JPEG: _jpeg,
    Kind.BLUR: _blur,
    Kind.NOISE: _noise,
    Kind.RESIZE: _resize,
    Kind.BLOCKS: _blocks,
    Kind.SATURATION: _saturation,
    Kind.CONTRAST: _contrast,
}
