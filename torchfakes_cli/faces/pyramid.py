"""Inputs of the cascade's networks: image pyramids packed on few canvases, and crops of candidates.

The first network processes all levels of a pyramid in few passes: each large level is a canvas of its own, and the many
small levels, whose overhead would equal their computation, share one canvas. OpenCV makes pyramids and crops on the
CPU, torch on a graphics card. A candidate is cropped from the repeatedly halved picture in which it is one to two times
the network's input size. Bilinear interpolation then comes close to area averaging, at a cost that doesn't depend on
the size of the face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from torchfakes_cli.faces.networks import MEAN, REFINE_SIDE

Pixels = NDArray[np.uint8]

#: Side of the first network's receptive field in pixels of a pyramid level: the smallest face that it detects.
PROPOSAL_CELL = 12
#: Pixels between neighboring outputs of the first network.
PROPOSAL_STRIDE = 2
#: Ratio between levels of the pyramid: facenet-pytorch's default.
PYRAMID_FACTOR = 0.709
#: Levels with more pixels than this are a canvas of their own.
LARGE_LEVEL = 1 << 17
#: Color of crops outside the picture.
GRAY = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a picture's pyramid and its position in pixels; all numbers are even.

    Attributes:
        canvas: index of the level's canvas.
        left, top: first column and row on the canvas.
        width, height: size.
    """

    canvas: int
    left: int
    top: int
    width: int
    height: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Row and column slices of the level on its canvas."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, slots=True)
class PyramidPacking:
    """Position of every pyramid level on the canvases, for pictures of one size.

    Attributes:
        levels: levels, largest first.
        canvases: (width, height) of each canvas.
    """

    levels: tuple[Level, ...]
    canvases: tuple[tuple[int, int], ...]

    def windows(self, canvas: int) -> NDArray[np.int16]:
        """Return the level of each of the first network's windows on a canvas; −1 for windows across levels."""
        width, height = (side // PROPOSAL_STRIDE - 5 for side in self.canvases[canvas])
        table = np.full((height, width), -1, np.int16)
        for number, level in enumerate(self.levels):
            if level.canvas == canvas:
                x, y = level.left // PROPOSAL_STRIDE, level.top // PROPOSAL_STRIDE
                inside = table[y : y + level.height // PROPOSAL_STRIDE - 5, x : x + level.width // PROPOSAL_STRIDE - 5]
                inside[:] = number
        return table


@lru_cache(maxsize=64)
def pack_pyramid(width: int, height: int, min_face: float) -> PyramidPacking:
    """Plan the packing of pictures of one size; there are no levels if they are smaller than the smallest face."""
    sizes = []
    scale = PROPOSAL_CELL / min_face
    while min(width, height) * scale >= PROPOSAL_CELL:
        w, h = (max(PROPOSAL_CELL, 2 * round(side * scale / 2)) for side in (width, height))
        sizes.append((w, h))
        scale *= PYRAMID_FACTOR
    large = sum(w * h > LARGE_LEVEL for w, h in sizes)
    levels = [Level(number, 0, 0, *size) for number, size in enumerate(sizes[:large])]
    canvases = sizes[:large]
    if len(sizes) > large:
        corners, size = _shelves(sizes[large:])
        levels += [Level(large, *corner, *small) for corner, small in zip(corners, sizes[large:], strict=True)]
        canvases.append(size)
    return PyramidPacking(tuple(levels), tuple(canvases))


def _shelves(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Pack rectangles, largest first, on shelves as wide as the first one.

    Returns:
        The (left, top) of each rectangle, and the total (width, height).
    """
    corners = []
    shelves: list[tuple[int, int]] = []  # (top, width taken)
    bottom = 0
    for width, height in sizes:
        shelf = next((n for n, (_, taken) in enumerate(shelves) if taken + width <= sizes[0][0]), len(shelves))
        if shelf == len(shelves):
            shelves.append((bottom, 0))
            bottom += height
        top, taken = shelves[shelf]
        corners.append((taken, top))
        shelves[shelf] = (top, taken + width)
    return corners, (sizes[0][0], bottom)


class PyramidOnCpu:
    """Pictures of one size in main memory, as a source of pyramids and crops.

    Args:
        frames: H×W×3 uint8 each, of one size.

    Attributes:
        count: number of pictures.
    """

    def __init__(self, frames: Sequence[Pixels]) -> None:
        self.count = len(frames)
        self._halvings = [list(frames)]
        # Interpolation averages four pixels if the sides are even, and nearly so if they are odd; OpenCV's area
        # averaging takes six times as long for odd sides.
        while min(self._halvings[-1][0].shape[:2]) >= 2 * REFINE_SIDE:
            height, width = self._halvings[-1][0].shape[:2]
            half = (width // 2, height // 2)
            self._halvings.append([np.asarray(cv2.resize(each, half), np.uint8) for each in self._halvings[-1]])
        self._sizes = torch.tensor([pictures[0].shape[1::-1] for pictures in self._halvings])

    def canvases(self, packing: PyramidPacking) -> list[Tensor]:
        """Return the pyramids of all pictures: N×H×W×3 for each canvas, values 0 to 255."""
        canvases = [np.zeros((self.count, height, width, 3), np.uint8) for width, height in packing.canvases]
        areas = [canvases[level.canvas][:, *level.area] for level in packing.levels]
        for number, source in enumerate(self._halvings[_source(self._sizes, packing.levels[0])]):
            for level, area in zip(packing.levels, areas, strict=True):
                cv2.resize(source, (level.width, level.height), dst=area[number], interpolation=cv2.INTER_LINEAR)
                source = area[number]
        return [torch.from_numpy(canvas) for canvas in canvases]

    def cut(self, boxes: Tensor, owners: Tensor, side: int) -> Tensor:
        """Crop boxes and resize each to a square.

        Args:
            boxes: M×4 in zero-based pixels with exclusive ends; may extend beyond the picture.
            owners: picture index of each box, M.
            side: side of the squares in pixels.

        Returns:
            M×side×side×3, values 0 to 255.
        """
        numbers, points = _samples(boxes, side, self._sizes)
        columns, rows = points.flatten(1, 2).permute(2, 0, 1).contiguous().numpy()
        sources = (numbers * self.count + owners).numpy()
        crops = np.empty((len(boxes), side * side, 3), np.uint8)
        for source in np.unique(sources):
            number, owner = divmod(int(source), self.count)
            chosen = np.flatnonzero(sources == source)
            picture = self._halvings[number][owner]
            crops[chosen] = cv2.remap(picture, columns[chosen], rows[chosen], cv2.INTER_LINEAR, borderValue=GRAY)
        return torch.from_numpy(crops).view(len(boxes), side, side, 3)


class PyramidOnDevice:
    """Pictures of one size in a graphics card's memory, otherwise like ``PyramidOnCpu``."""

    def __init__(self, frames: Sequence[Pixels], device: torch.device) -> None:
        self.count = len(frames)
        pictures = torch.stack([torch.from_numpy(frame).to(device, non_blocking=True) for frame in frames])
        # 3×N×H×W, so that the pictures below one another are one picture without a copy.
        self._halvings = [pictures.permute(3, 0, 1, 2).float().contiguous()]
        while min(self._halvings[-1].shape[2:]) >= 2 * REFINE_SIDE:
            height, width = self._halvings[-1].shape[2:]
            self._halvings.append(functional.interpolate(self._halvings[-1], (height // 2, width // 2), mode="area"))
        self._sizes = torch.tensor([halving.shape[:1:-1] for halving in self._halvings], device=device)

    def canvases(self, packing: PyramidPacking) -> list[Tensor]:
        """Return the pyramids of all pictures: N×H×W×3 for each canvas, values 0 to 255."""
        source = self._halvings[_source(self._sizes, packing.levels[0])]
        canvases = [source.new_zeros(self.count, height, width, 3) for width, height in packing.canvases]
        for level in packing.levels:
            source = functional.interpolate(source, (level.height, level.width), mode="bilinear")
            canvases[level.canvas][:, *level.area] = source.permute(1, 2, 3, 0)
        return canvases

    def cut(self, boxes: Tensor, owners: Tensor, side: int) -> Tensor:
        """Crop boxes and resize each to a square."""
        numbers, points = _samples(boxes, side, self._sizes)
        ends = self._sizes[numbers][:, None, None]
        # Over one pixel beyond the border, the picture fades to gray.
        shares = ((points + 1).clamp(0, 1) * (ends - points).clamp(0, 1)).prod(3, keepdim=True)
        points = points.clamp(min=0).minimum(ends - 1)
        crops = points.new_empty(len(boxes), side, side, 3)
        for number in sorted(set(numbers.tolist())):
            chosen = (numbers == number).nonzero()[:, 0]
            halving = self._halvings[number]
            height, width = halving.shape[2:]
            columns, rows = points[chosen].unbind(3)
            rows = rows + owners[chosen, None, None] * height
            grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / (height * self.count) - 1], 3)
            below = halving.view(1, 3, -1, width)
            values = functional.grid_sample(below, grid.view(1, -1, side, 2), align_corners=False)
            crops[chosen] = values.view(3, -1, side, side).permute(1, 2, 3, 0)
        return (crops - MEAN) * shares + MEAN


ImagePyramid = PyramidOnCpu | PyramidOnDevice


def _source(sizes: Tensor, level: Level) -> int:
    """Return the index of the smallest halving at least as large as a level, or 0 if none is."""
    return max(0, int((sizes >= torch.tensor([level.width, level.height], device=sizes.device)).all(1).sum()) - 1)


def _samples(boxes: Tensor, side: int, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the sampling positions of boxes (M×4, zero-based) in halvings of the given (width, height), L×2.

    Returns:
        The halving index of each box, M, and the (x, y) of its pixels in that halving, M×side×side×2.
    """
    corners, spans = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    numbers = (spans.amax(1) / side).clamp(min=1).log2().floor().long().clamp(max=len(sizes) - 1)
    steps = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    scales = (sizes / sizes[0])[numbers]
    # Pixel centers are at integer coordinates.
    columns, rows = (((corners[:, None] + steps[:, None] * spans[:, None]) * scales[:, None]) - 0.5).unbind(2)
    points = torch.stack([columns[:, None, :].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], 3)
    return numbers, points
