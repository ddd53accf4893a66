"""Inputs of the cascade's networks: image pyramids and crops of candidates.

OpenCV creates them on the CPU, torch on a graphics card. A candidate is cropped from the repeatedly halved picture in
which it is one to two times the network's input size. Bilinear interpolation then comes close to area averaging, at a
cost that doesn't depend on the size of the face.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from torchfakes_cli.faces.layout import Layout, Level
from torchfakes_cli.faces.networks import MEAN, REFINE_SIDE

Pixels = NDArray[np.uint8]
Halving = TypeVar("Halving")

#: Colour of crops outside the picture.
GREY = (128, 128, 128)


class Pictures(Protocol):
    """Pictures of one size, as a source of pyramids and crops."""

    def canvases(self, layout: Layout) -> list[Tensor]:
        """Returns the pyramids of all pictures: N×H×W×3 for each canvas, values 0 to 255."""

    def cut(self, boxes: Tensor, owners: Tensor, side: int) -> Tensor:
        """Crops boxes and resizes each to a square.

        Args:
            boxes: M×4 in zero-based pixels with exclusive ends; may extend beyond the picture.
            owners: picture index of each box, M.
            side: side of the squares in pixels.

        Returns:
            M×side×side×3, values 0 to 255.
        """


class PicturesOnCpu:
    """Pictures in main memory.

    Args:
        frames: H×W×3 uint8 each, of one size.
    """

    def __init__(self, frames: Sequence[Pixels]) -> None:
        self._halvings = [list(frames)]
        while min(self._halvings[-1][0].shape[:2]) >= 2 * REFINE_SIDE:
            height, width = self._halvings[-1][0].shape[:2]
            self._halvings.append([_halved(picture, (width // 2, height // 2)) for picture in self._halvings[-1]])
        self._sizes = torch.tensor([pictures[0].shape[1::-1] for pictures in self._halvings])

    def canvases(self, layout: Layout) -> list[Tensor]:
        """Implements ``Pictures``."""
        count = len(self._halvings[0])
        canvases = [np.zeros((count, height, width, 3), np.uint8) for width, height in layout.canvases]
        places = [canvases[level.canvas][:, *level.place] for level in layout.levels]
        sources = _source(self._halvings, [pictures[0].shape[1::-1] for pictures in self._halvings], layout.levels[0])
        for number, source in enumerate(sources):
            for level, place in zip(layout.levels, places, strict=True):
                cv2.resize(source, (level.width, level.height), dst=place[number], interpolation=cv2.INTER_LINEAR)
                source = place[number]
        return [torch.from_numpy(canvas) for canvas in canvases]

    def cut(self, boxes: Tensor, owners: Tensor, side: int) -> Tensor:
        """Implements ``Pictures``."""
        numbers, places = _samples(boxes, side, self._sizes)
        columns, rows = places.flatten(1, 2).permute(2, 0, 1).contiguous().numpy()
        sources = (numbers * len(self._halvings[0]) + owners).numpy()
        crops = np.empty((len(boxes), side * side, 3), np.uint8)
        for source in np.unique(sources):
            number, owner = divmod(int(source), len(self._halvings[0]))
            chosen = np.flatnonzero(sources == source)
            picture = self._halvings[number][owner]
            crops[chosen] = cv2.remap(picture, columns[chosen], rows[chosen], cv2.INTER_LINEAR, borderValue=GREY)
        return torch.from_numpy(crops).view(len(boxes), side, side, 3)


class PicturesOnDevice:
    """Pictures in a graphics card's memory.

    Args:
        frames: H×W×3 uint8 each, of one size.
        device: device of the pictures.
    """

    def __init__(self, frames: Sequence[Pixels], device: torch.device) -> None:
        pictures = torch.stack([torch.from_numpy(frame).to(device, non_blocking=True) for frame in frames])
        self._halvings = [pictures.permute(0, 3, 1, 2).float()]
        while min(self._halvings[-1].shape[2:]) >= 2 * REFINE_SIDE:
            height, width = self._halvings[-1].shape[2:]
            self._halvings.append(functional.interpolate(self._halvings[-1], (height // 2, width // 2), mode="area"))
        sizes = [(halving.shape[3], halving.shape[2]) for halving in self._halvings]
        self._sizes = torch.tensor(sizes, device=device)
        self._tall, corners = _side_by_side(self._halvings, sizes)
        self._corners = torch.tensor(corners, device=device)

    def canvases(self, layout: Layout) -> list[Tensor]:
        """Implements ``Pictures``."""
        sizes = [(halving.shape[3], halving.shape[2]) for halving in self._halvings]
        source = _source(self._halvings, sizes, layout.levels[0])
        canvases = [source.new_zeros(len(source), height, width, 3) for width, height in layout.canvases]
        for level in layout.levels:
            source = functional.interpolate(source, (level.height, level.width), mode="bilinear")
            canvases[level.canvas][:, *level.place] = source.permute(0, 2, 3, 1)
        return canvases

    def cut(self, boxes: Tensor, owners: Tensor, side: int) -> Tensor:
        """Implements ``Pictures``."""
        numbers, places = _samples(boxes, side, self._sizes)
        ends = self._sizes[numbers][:, None, None]
        # Over one pixel beyond the border, the picture fades to grey.
        shares = ((places + 1).clamp(0, 1) * (ends - places).clamp(0, 1)).prod(3, keepdim=True)
        places = places.clamp(min=0).minimum(ends - 1) + self._corners[numbers][:, None, None]
        height, width = self._tall.shape[2:]
        rows = owners[:, None, None] * (height // len(self._halvings[0])) + places[..., 1]
        grid = torch.stack([(2 * places[..., 0] + 1) / width - 1, (2 * rows + 1) / height - 1], -1).view(1, -1, side, 2)
        values = functional.grid_sample(self._tall, grid, align_corners=False)
        values = values.view(3, len(boxes), side, side).permute(1, 2, 3, 0)
        return (values - MEAN) * shares + MEAN


def _side_by_side(halvings: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Joins all halvings (N×3×h×w) of all pictures into one, so that all candidates are cropped in one call.

    Returns:
        The joined picture, 1×3×(N·H)×W, and the (left, top) of each halving within its picture's H×W.
    """
    width, height = sizes[0]
    corners = [(0, 0)]
    for place in range(1, len(sizes)):
        corners.append((corners[-1][0] + sizes[place - 1][0], height) if place > 1 else (0, height))
    count = len(halvings[0])
    whole = height + (sizes[1][1] if len(sizes) > 1 else 0)
    together = halvings[0].new_zeros(3, count, whole, width)
    for (left, top), (w, h), halving in zip(corners, sizes, halvings, strict=True):
        together[:, :, top : top + h, left : left + w] = halving.transpose(0, 1)
    return together.view(1, 3, count * whole, width), corners


def _halved(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Resizes a picture to (width, height), half of its own size rounded down.

    Interpolation averages four pixels if the sides are even, and nearly so if they are odd; OpenCV's area averaging
    takes six times as long for odd sides.
    """
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _source(halvings: Sequence[Halving], sizes: Sequence[tuple[int, int]], level: Level) -> Halving:
    """Returns the smallest halving that is at least as large as a level, or the largest halving if none is."""
    fitting = [n for n, (width, height) in enumerate(sizes) if width >= level.width and height >= level.height]
    return halvings[max(fitting, default=0)]


def _samples(boxes: Tensor, side: int, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the sampling positions of candidates.

    Args:
        boxes: M×4 in zero-based pixels.
        side: side of the crops in pixels.
        sizes: (width, height) of the halvings, L×2.

    Returns:
        The halving index of each box, M, and the (x, y) of its pixels in that halving, M×side×side×2.
    """
    corners, spans = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    numbers = (spans.amax(1) / side).clamp(min=1).log2().floor().long().clamp(max=len(sizes) - 1)
    steps = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    scales = (sizes / sizes[0])[numbers]
    # Pixel centres are at integer coordinates.
    columns, rows = (((corners[:, None] + steps[:, None] * spans[:, None]) * scales[:, None]) - 0.5).unbind(2)
    places = torch.stack([columns[:, None, :].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], 3)
    return numbers, places
