"""Where one shot ends and the next begins, by colours and coarse layout. Works without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: A cut: the colours of two samples overlap by less than this …
CUT_OVERLAP = 0.55
#: … and the pictures' coarse layouts differ by at least this, in grey levels.
CUT_DIFFERENCE = 20.0
#: Of the histogram, along each colour.
BINS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a whole picture looks like.

    Attributes:
        colours: normalised histogram, 6×6×6.
        layout: 9×16×3 grey levels.
    """

    colours: NDArray[np.float32]
    layout: NDArray[np.float32]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Scene:
        """Looks at an H×W×3 RGB picture."""
        small = shrunk(pixels, (64, 36))
        return cls(colours(small), shrunk(small, (16, 9)).astype(np.float32))

    def is_cut_from(self, before: Scene) -> bool:
        """Whether a cut lies between a picture of ``before`` and one of this scene."""
        return self.layout_change(before) >= CUT_DIFFERENCE and overlap(before.colours, self.colours) < CUT_OVERLAP

    def layout_change(self, before: Scene) -> float:
        """Mean difference of the coarse layouts, in grey levels."""
        return float(np.abs(before.layout - self.layout).mean())


def shrunk(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture at (width, height), area-averaged; of a large one, some of the pixels.

    Four times four pixels for each of the result say enough, and whole steps are averaged many times faster.
    """
    height, width = pixels.shape[:2]
    step = min(4, width // size[0], height // size[1])
    if step > 1:
        chosen = (step * size[0], step * size[1])
        pixels = np.asarray(cv2.resize(pixels, chosen, interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def colours(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours of a picture, as a normalised 6×6×6 histogram."""
    histogram: NDArray[Any] = cv2.calcHist([pixels], [0, 1, 2], None, [BINS] * 3, [0, 256] * 3)
    # Blurring over neighbouring bins keeps a small change of light from emptying a full bin.
    smooth = (_BLUR @ histogram.ravel()).reshape(histogram.shape)
    return np.asarray(smooth / max(1e-6, float(smooth.sum())), np.float32)


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection of two normalised histograms, 0 to 1."""
    return float(np.minimum(a, b).sum())


def _blur() -> NDArray[np.float32]:
    """What each bin takes from each: a half stays, a quarter goes to either neighbour along each colour.

    At the edge a quarter stays as well.
    """
    places = np.arange(BINS)
    along = np.eye(BINS) / 2
    for step in (-1, 1):
        along[places, np.clip(places + step, 0, BINS - 1)] += 0.25
    return np.kron(along, np.kron(along, along)).astype(np.float32)


_BLUR = _blur()
