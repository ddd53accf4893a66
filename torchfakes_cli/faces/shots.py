"""Shot boundary detection by colour histogram and coarse layout; works without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: A cut needs a colour histogram overlap below this.
CUT_OVERLAP = 0.55
#: A cut also needs at least this mean difference of the coarse layouts, in grey levels.
CUT_DIFFERENCE = 20.0
#: Histogram bins per colour channel.
BINS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Visual summary of a whole picture.

    Attributes:
        colours: normalised colour histogram, 6×6×6.
        layout: the picture reduced to 9×16×3, in grey levels per channel.
    """

    colours: NDArray[np.float32]
    layout: NDArray[np.float32]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Scene:
        """Summarises an H×W×3 RGB picture."""
        small = shrunk(pixels, (64, 36))
        return cls(colours(small), shrunk(small, (16, 9)).astype(np.float32))

    def is_cut_from(self, before: Scene) -> bool:
        """Returns whether a cut lies between the picture ``before`` and this one."""
        return self.layout_change(before) >= CUT_DIFFERENCE and overlap(before.colours, self.colours) < CUT_OVERLAP

    def layout_change(self, before: Scene) -> float:
        """Returns the mean difference of the coarse layouts in grey levels."""
        return float(np.abs(before.layout - self.layout).mean())


def shrunk(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduces a picture to (width, height) by area averaging; large pictures are subsampled first.

    Up to 4×4 pixels per result pixel are accurate enough, and averaging whole steps is many times faster.
    """
    height, width = pixels.shape[:2]
    step = min(4, width // size[0], height // size[1])
    if step > 1:
        chosen = (step * size[0], step * size[1])
        pixels = np.asarray(cv2.resize(pixels, chosen, interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def colours(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the normalised 6×6×6 colour histogram of a picture."""
    histogram: NDArray[Any] = cv2.calcHist([pixels], [0, 1, 2], None, [BINS] * 3, [0, 256] * 3)
    # Blurring over neighbouring bins makes the histogram robust to small changes of light.
    smooth = (_BLUR @ histogram.ravel()).reshape(histogram.shape)
    return np.asarray(smooth / max(1e-6, float(smooth.sum())), np.float32)


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Returns the intersection of two normalised histograms, 0 to 1."""
    return float(np.minimum(a, b).sum())


def _blur() -> NDArray[np.float32]:
    """Builds the blur matrix of the flattened histogram: weights ¼, ½, ¼ along each channel.

    At the edges the outer quarter stays in the bin.
    """
    places = np.arange(BINS)
    along = np.eye(BINS) / 2
    for step in (-1, 1):
        along[places, np.clip(places + step, 0, BINS - 1)] += 0.25
    return np.kron(along, np.kron(along, along)).astype(np.float32)


_BLUR = _blur()
