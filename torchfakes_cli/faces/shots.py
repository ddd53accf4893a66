"""Where one shot ends and the next begins, by colours and coarse layout. Works without torch."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: A cut: the colours of two samples overlap by less than this …
CUT_OVERLAP = 0.55
#: … and the pictures' coarse layouts differ by at least this, in grey levels.
CUT_DIFFERENCE = 20.0


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
        # Every so manieth pixel of a large one says enough.
        step = max(1, min(pixels.shape[0] // 144, pixels.shape[1] // 256))
        small = shrunk(np.ascontiguousarray(pixels[::step, ::step]), (64, 36))
        return cls(colours(small), shrunk(small, (16, 9)).astype(np.float32))

    def is_cut_from(self, before: Scene) -> bool:
        """Whether a cut lies between a picture of ``before`` and one of this scene."""
        differs = float(np.abs(before.layout - self.layout).mean())
        return differs >= CUT_DIFFERENCE and overlap(before.colours, self.colours) < CUT_OVERLAP


def shrunk(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture at (width, height), area-averaged."""
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def colours(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours of a picture, as a normalised 6×6×6 histogram."""
    histogram = cv2.calcHist([pixels], [0, 1, 2], None, [6, 6, 6], [0, 256, 0, 256, 0, 256])
    # Blurring over neighbouring bins keeps a small change of light from emptying a full bin.
    smooth: NDArray[np.float32] = histogram.astype(np.float32)
    for axis in range(3):
        smooth = np.asarray((2 * smooth + _neighbours(smooth, axis)) / 4, np.float32)
    return np.asarray(smooth / max(1e-6, float(smooth.sum())), np.float32)


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection of two normalised histograms, 0 to 1."""
    return float(np.minimum(a, b).sum())


def _neighbours(histogram: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Sum of the two neighbouring bins along one axis; the edge is its own neighbour."""
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    padded = np.pad(histogram, pad, mode="edge")
    return np.take(padded, range(histogram.shape[axis]), axis) + np.take(
        padded, range(2, histogram.shape[axis] + 2), axis
    )
