"""Segments a picture into face regions, such as eyes and mouth, by the outline of a mean face."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.outline import (
    BROW,
    EYE,
    FOREHEAD,
    JAW,
    LANDMARKS,
    MOUTH,
    NOSE,
    Points,
    both_sides,
    fit_points,
)
from torchfakes_cli.records import Point

#: Region names; every pixel of a picture belongs to exactly one region.
REGIONS = ("eyes", "nose", "mouth", "chin", "cheeks", "forehead", "outside")

# In units of the mean face. The mouth region extends to the nose and slightly around the lips; the eyes include the
# brows.
_FACE = both_sides(JAW + FOREHEAD)
_EYES = both_sides(BROW + EYE)
_NOSE = both_sides(NOSE)
_MOUTH = np.concatenate([both_sides(MOUTH) * (1.2, 1.05) - (0, 0.05), both_sides([(-0.2, 0.64)])])
#: A distance beyond any face.
_FAR = 9.0
_BELOW_LIPS = np.array([(-_FAR, 1.25), (_FAR, 1.25), (_FAR, _FAR), (-_FAR, _FAR)])
_ABOVE_BROWS = np.array([(-_FAR, -0.25), (-0.66, -0.37), (0.66, -0.37), (_FAR, -0.25), (_FAR, -_FAR), (-_FAR, -_FAR)])


def face_regions(size: tuple[int, int], landmarks: Sequence[Point]) -> NDArray[np.uint8]:
    """Returns the region of every pixel.

    Args:
        size: (width, height) of the picture.
        landmarks: MTCNN's five landmarks as (x, y) in pixels of the picture.

    Returns:
        H×W uint8, indices into ``REGIONS``.
    """
    width, height = size
    regions = np.full((height, width), REGIONS.index("outside"), np.uint8)
    wanted = np.array(landmarks, np.float64)

    def within(outline: Points, *, hull: bool = True) -> NDArray[np.bool_]:
        points = fit_points(LANDMARKS, wanted, outline).astype(np.float32)
        if hull:
            points = cv2.convexHull(points)[:, 0].astype(np.float32)
        mask = np.zeros((height, width), np.uint8)
        # Coordinates in 1/16 pixel (4 fractional bits).
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 1, shift=4)
        return mask.astype(np.bool_)

    face = within(_FACE)
    regions[face] = REGIONS.index("cheeks")
    for name, part in (
        ("chin", within(_BELOW_LIPS)),
        ("forehead", within(_ABOVE_BROWS, hull=False)),
        ("eyes", within(_EYES)),
        ("nose", within(_NOSE)),
        ("mouth", within(_MOUTH)),
    ):
        regions[face & part] = REGIONS.index(name)
    return regions
