"""Where the levels of a picture's pyramid lie, so that the first network sees them all in few passes.

Large levels are passed to the network one by one; the many small ones, each of which would cost as much in overhead as
in work, are laid side by side on one canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Smallest face the first network sees, in pixels of a pyramid level (its receptive field).
PROPOSAL_CELL = 12
#: Pixels between neighbouring outputs of the first network.
PROPOSAL_STRIDE = 2
#: Ratio between levels of the pyramid: facenet-pytorch's default.
PYRAMID_FACTOR = 0.709
#: Levels with more pixels than this are a canvas of their own.
LARGE_LEVEL = 1 << 17


@dataclass(frozen=True, slots=True)
class Level:
    """One size of the picture, and its place.

    Attributes:
        canvas: number of the canvas it lies on.
        left: of its first column there; even, as everything here.
        top: of its first row there.
        width: in pixels.
        height: in pixels.
    """

    canvas: int
    left: int
    top: int
    width: int
    height: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns of the canvas."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, slots=True)
class Layout:
    """The levels of pictures of one size.

    Attributes:
        levels: largest first.
        canvases: (width, height) of each.
    """

    levels: tuple[Level, ...]
    canvases: tuple[tuple[int, int], ...]

    def windows(self, canvas: int) -> NDArray[np.int16]:
        """For each window that the first network sees of a canvas the level it lies in, or −1 if in no single one."""
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
    """Plan the pyramid of pictures.

    Args:
        width: of the pictures.
        height: of the pictures.
        min_face: smallest face looked for, in pixels of the pictures.

    Returns:
        The layout; without levels if a picture is smaller than a face.
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
    """The even number nearest to a level's side."""
    return max(PROPOSAL_CELL, 2 * round(side / 2))


def _shelves(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Put rectangles, largest first, on shelves as wide as the first one.

    Returns:
        (left, top) of each, and the (width, height) of them all.
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
