"""Face boxes, crops, and which crops are too blurry to score, for ``scan`` and ``prepare``; works without torch."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.options import SHARPNESS_SIZE
from torchfakes_cli.records import Box


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes (x1, y1, x2, y2); 0 if both are empty.

    >>> iou((0, 0, 2, 2), (1, 0, 3, 2)) == 1 / 3
    True
    """
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def crop_origin(box: Box, margin: float) -> tuple[int, int, int]:
    """Return the position of a face's square crop in its frame.

    Args:
        box: (x1, y1, x2, y2) in pixels of the frame.
        margin: side of the crop divided by the longer side of the box.

    Returns:
        (left, top, side) in whole pixels; the square may leave the frame.
    """
    x1, y1, x2, y2 = box
    side = max(1, round(max(x2 - x1, y2 - y1) * margin))
    return round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), side


def crop_face(pixels: NDArray[np.uint8], box: Box, margin: float, shape: str = "square") -> NDArray[np.uint8]:
    """Cut a square around a face; parts outside the frame are black, and the picture is never stretched.

    Some imported detectors were trained on the box itself, clipped at the frame's border as facenet-pytorch does.

    Args:
        pixels: H×W×3 uint8.
        box: (x1, y1, x2, y2) in pixels of the frame.
        margin: side of the crop divided by the longer side of the box.
        shape: ``square``, or ``box`` for the clipped box with both sides grown by the margin.

    Returns:
        S×S×3 uint8 (H×W×3 for ``box``), a copy, so that it doesn't keep the frame in memory.
    """
    height, width = pixels.shape[:2]
    if shape == "box":
        left, top, right, bottom = _box_part(width, height, box, margin)
        return pixels[top:bottom, left:right].copy()
    left, top, side = crop_origin(box, margin)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(width, left + side), min(height, top + side)
    crop = np.zeros((side, side, 3), np.uint8)
    if x1 < x2 and y1 < y2:
        crop[y1 - top : y2 - top, x1 - left : x2 - left] = pixels[y1:y2, x1:x2]
    return crop


def crop_corner(frame_size: tuple[int, int], box: Box, margin: float, shape: str = "square") -> tuple[int, int]:
    """Return the upper left corner (x, y) of the crop that ``crop_face`` cuts out of a (width, height) frame."""
    if shape == "box":
        return _box_part(*frame_size, box, margin)[:2]
    return crop_origin(box, margin)[:2]


def _box_part(width: int, height: int, box: Box, margin: float) -> tuple[int, int, int, int]:
    """Return a box with its sides grown by the margin, clipped to the frame, as (left, top, right, bottom)."""
    x1, y1, x2, y2 = box
    more_x, more_y = (x2 - x1) * (margin - 1) / 2, (y2 - y1) * (margin - 1) / 2
    # Rounded towards zero, as facenet-pytorch does; at least one pixel inside the frame.
    left, top = min(int(max(x1 - more_x, 0)), width - 1), min(int(max(y1 - more_y, 0)), height - 1)
    right, bottom = max(int(min(x2 + more_x, width)), left + 1), max(int(min(y2 + more_y, height)), top + 1)
    return left, top, right, bottom


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Return the variance of the 3×3 Laplacian of the gray crop at one fixed size.

    The measure follows Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (ICPR 2000). Resizing first
    makes one threshold valid for faces of every size; a strongly enlarged face counts as blurry, as intended.

    Args:
        crop: H×W×3 uint8 RGB, usually a square.

    Returns:
        Variance in squared gray levels; 0 for a flat picture.
    """
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    shrinks = min(gray.shape) > SHARPNESS_SIZE
    size = (SHARPNESS_SIZE, SHARPNESS_SIZE)
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return float(cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S, ksize=1))[1][0, 0] ** 2)


def is_blurry(sharpness: Any, threshold: float) -> Any:
    """Return whether crops are too blurry to be scored, by their ``sharpness``: a number, an array or a column."""
    return sharpness < threshold
