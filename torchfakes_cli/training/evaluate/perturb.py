"""Damage that footage takes on its way to a detector, in five levels each.

The levels of blur, noise, resizing, blocks, saturation and contrast are those of DeeperForensics-1.0 (Jiang et al.,
CVPR 2020), with which LipForensics (Haliassos et al., CVPR 2021) and others measured robustness. They damaged whole
frames; here it is the crop, before it becomes the network's input. H.264 spans FaceForensics++'s c23 and c40 and goes
beyond, JPEG what cameras and messengers write.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.errors import UsageError
from torchfakes_cli.video.encode import h264_round_trip

Picture = NDArray[np.uint8]


class Kind(StrEnum):
    """Kind of damage."""

    H264 = "h264"
    JPEG = "jpeg"
    BLUR = "blur"
    NOISE = "noise"
    RESIZE = "resize"
    BLOCKS = "blocks"
    SATURATION = "saturation"
    CONTRAST = "contrast"


#: Values of the levels 1 to 5.
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
#: What the values mean.
MEANING: dict[Kind, str] = {
    Kind.H264: "CRF of x264 (the crops of a person are one clip)",
    Kind.JPEG: "quality",
    Kind.BLUR: "Gaussian kernel in pixels (standard deviation: a sixth of it)",
    Kind.NOISE: "variance of Gaussian noise in luma and chroma (range: 0 to 1)",
    Kind.RESIZE: "reduction factor before a crop is enlarged again",
    Kind.BLOCKS: "number of gray squares (side: a 32nd of the crop's)",
    Kind.SATURATION: "factor on the chroma",
    Kind.CONTRAST: "factor on all values",
}


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of damage at one level, from 1 to 5."""

    kind: Kind
    level: int

    @property
    def value(self) -> float:
        """Value of the level."""
        return LEVELS[self.kind][self.level - 1]


def chosen_perturbations(kinds: Sequence[str], levels: Sequence[int]) -> tuple[Perturbation, ...]:
    """Return each kind (``all`` for all) at each level, in the order of ``Kind`` and from mild to severe."""
    known = [kind.value for kind in Kind]
    if unknown := sorted(set(kinds) - {*known, "all"}):
        raise UsageError(f"there is no damage called {unknown[0]!r}", advice=f"Choose from {', '.join(known)} or all.")
    chosen = [kind for kind in Kind if "all" in kinds or kind.value in kinds]
    return tuple(Perturbation(kind, level) for kind in chosen for level in sorted(set(levels)))


def perturb(clip: Sequence[Picture], perturbation: Perturbation, rng: np.random.Generator) -> list[Picture]:
    """Damage the crops of one person in one video: S×S×3 uint8 RGB in order of time, of sizes that may differ."""
    if perturbation.kind is not Kind.H264:
        return [_damaged(crop, perturbation, rng) for crop in clip]
    # Smaller crops get a border, so that none is resampled.
    side = max(len(crop) for crop in clip)
    frames = [np.pad(crop, ((0, side - len(crop)), (0, side - len(crop)), (0, 0)), mode="edge") for crop in clip]
    decoded = h264_round_trip(frames, int(perturbation.value))
    return [np.ascontiguousarray(frame[: len(crop), : len(crop)]) for frame, crop in zip(decoded, clip, strict=True)]


def _damaged(crop: Picture, perturbation: Perturbation, rng: np.random.Generator) -> Picture:
    side, value = len(crop), perturbation.value
    channels: Any
    found: Any
    match perturbation.kind:
        case Kind.JPEG:
            found = jpeg_round_trip(crop, int(value))
        case Kind.BLUR:
            found = cv2.GaussianBlur(crop, (int(value), int(value)), value / 6)
        case Kind.NOISE | Kind.SATURATION:
            channels = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
            if perturbation.kind is Kind.NOISE:
                channels += rng.standard_normal(channels.shape, np.float32) * np.float32(math.sqrt(value))
            else:
                channels[..., 1:] = 0.5 + value * (channels[..., 1:] - 0.5)
            found = cv2.cvtColor(channels, cv2.COLOR_YCrCb2RGB) * 255
        case Kind.RESIZE:
            small = max(1, round(side / value))
            reduced = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
            found = cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR)
        case Kind.BLOCKS:
            width = max(1, round(side / 32))
            found = crop.copy()
            for row, column in rng.integers(0, side - width + 1, (int(value), 2)):
                found[row : row + width, column : column + width] = 128
        case _:
            found = value * crop.astype(np.float32)
    return np.ascontiguousarray(np.clip(np.rint(found), 0, 255), np.uint8)


def jpeg_round_trip(picture: Picture, quality: int) -> Picture:
    """Compress and decompress an RGB picture as JPEG at a quality from 1 to 100."""
    data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
