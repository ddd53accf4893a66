"""Layout of image pyramids on canvases, so that the first network processes all levels in few passes.

Each large level is a canvas of its own. The many small levels, whose overhead would equal their computation, share one
canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Side of the first network's receptive field in pixels of a pyramid level: the smallest face that it detects.
PROPOSAL_CELL = 12
#: Pixels between neighbouring outputs of the first network.
PROPOSAL_STRIDE = 2
#: Ratio between levels of the pyramid: facenet-pytorch's default.
PYRAMID_FACTOR = 0.709
#: Levels with more pixels than this are a canvas of their own.
LARGE_LEVEL = 1 << 17


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a picture's pyramid and its position; all values in pixels are even.

    Attributes:
        canvas: index of the level's canvas.
        left: first column on the canvas.
        top: first row on the canvas.
        width: width in pixels.
        height: height in pixels.
    """

    canvas: int
    left: int
    top: int
    width: int
    height: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Row and column slices of the level on its canvas."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, slots=True)
class Layout:
    """Pyramid layout of pictures of one size.

    Attributes:
        levels: levels, largest first.
        canvases: (width, height) of each canvas.
    """

    levels: tuple[Level, ...]
    canvases: tuple[tuple[int, int], ...]

    def windows(self, canvas: int) -> NDArray[np.int16]:
        """Returns the level of each of the first network's windows on a canvas; −1 for windows across levels."""
        width, height = (side // PROPOSAL_STRIDE - 5 for side in self.canvases[canvas])
        table = np.full((height, width), -1, np.int16)
        for number, level in enumerate(self.levels):
            if level.canvas == canvas:
                x, y = level.left // PROPOSAL_STRIDE, level.top // PROPOSAL_STRIDE
                inside = table[y : y + level.height // PROPOSAL_STRIDE - 5, x : x + level.width // PROPOSAL_STRIDE - 5]
                inside[:] = number
        return table


@lru_cache(maxsize=64)
def lay_out(width: int, height: int, min_face: float) -> Layout:
    """Plans the pyramid layout of pictures of one size.

    Args:
        width: width of the pictures.
        height: height of the pictures.
        min_face: smallest face to detect, in pixels of the pictures.

    Returns:
        The layout; without levels if the pictures are smaller than the smallest face.
    """
    sizes = []
    scale = PROPOSAL_CELL / min_face
    while min(width, height) * scale >= PROPOSAL_CELL:
        sizes.append((_even(width * scale), _even(height * scale)))
        scale *= PYRAMID_FACTOR
    large = sum(w * h > LARGE_LEVEL for w, h in sizes)
    levels = [Level(number, 0, 0, *size) for number, size in enumerate(sizes[:large])]
    canvases = sizes[:large]
    if len(sizes) > large:
        places, size = _shelves(sizes[large:])
        levels += [Level(large, *place, *small) for place, small in zip(places, sizes[large:], strict=True)]
        canvases.append(size)
    return Layout(tuple(levels), tuple(canvases))


def _even(side: float) -> int:
    """Rounds a level's side to an even number of at least ``PROPOSAL_CELL``."""
    return max(PROPOSAL_CELL, 2 * round(side / 2))


def _shelves(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Packs rectangles, largest first, on shelves as wide as the first one.

    Returns:
        The (left, top) of each rectangle, and the total (width, height).
    """
    places = []
    shelves: list[tuple[int, int]] = []  # (top, width taken)
    bottom = 0
    for width, height in sizes:
        shelf = next((n for n, (_, taken) in enumerate(shelves) if taken + width <= sizes[0][0]), len(shelves))
        if shelf == len(shelves):
            shelves.append((bottom, 0))
            bottom += height
        top, taken = shelves[shelf]
        places.append((taken, top))
        shelves[shelf] = (top, taken + width)
    return places, (sizes[0][0], bottom)
