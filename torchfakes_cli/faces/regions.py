"""Mean face template and segmentation of a picture into face regions, such as eyes and mouth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.records import Point

#: K×2 array of (x, y).
Points = NDArray[np.float64]

# A mean face in units of the distance between the pupils, with the origin between them and y down. Only the picture's
# left half is listed; the right half mirrors it. Averaged over 142 faces with 189 landmarks in the Face Research Lab
# London Set (DeBruine and Jones 2017) and its Canadian companion (DeBruine), both CC BY 4.0, aligned by MTCNN's points.
LANDMARKS = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.53), (-0.4, 1.08), (0.4, 1.08)])
JAW = [
    (-1.09, 0.07),
    (-1.1, 0.25),
    (-1.08, 0.42),
    (-1.06, 0.6),
    (-1.02, 0.82),
    (-0.97, 1.05),
    (-0.87, 1.29),
    (-0.63, 1.56),
    (-0.34, 1.74),
    (0.0, 1.81),
]
BROW = [(-0.91, -0.13), (-0.82, -0.29), (-0.66, -0.37), (-0.47, -0.36), (-0.22, -0.28)]
FOREHEAD = [(-1.04, -0.3), (-0.95, -0.61), (-0.85, -0.92), (-0.64, -1.11), (0.0, -1.18)]
EYE = [(-0.74, -0.03), (-0.64, -0.1), (-0.51, -0.13), (-0.38, -0.11), (-0.28, -0.05), (-0.38, 0.07), (-0.61, 0.07)]
CHEEK = [(-0.95, 0.34), (-0.79, 0.47), (-0.58, 0.52)]
NOSE = [(-0.28, 0.55), (-0.28, 0.64), (-0.11, -0.09)]
MOUTH = [(-0.39, 1.08), (-0.25, 0.99), (-0.11, 0.93), (-0.28, 1.16), (-0.16, 1.21), (0.0, 1.22)]

#: Region names; every pixel of a picture belongs to exactly one region.
REGIONS = ("eyes", "nose", "mouth", "chin", "cheeks", "forehead", "outside")
#: A distance beyond any face.
_FAR = 9.0


def both_sides(half: list[tuple[float, float]]) -> Points:
    """Return the points of the left half and their mirror images."""
    return np.array(half + [(-x, y) for x, y in half if x])


def fit_points(known: Points, wanted: Points, points: Points) -> Points:
    """Transform points by the least-squares affine map from ``known`` to ``wanted``, each K×2."""
    design = np.c_[known, np.ones(len(known))]
    matrix, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    return np.asarray(np.c_[points, np.ones(len(points))] @ matrix)


_FACE = both_sides(JAW + FOREHEAD)
_ABOVE_BROWS = np.array([(-_FAR, -0.25), (-0.66, -0.37), (0.66, -0.37), (_FAR, -0.25), (_FAR, -_FAR), (-_FAR, -_FAR)])
# Later regions replace earlier ones. The eyes include the brows; the mouth extends to the nose and slightly around the
# lips.
_PARTS = {
    "chin": np.array([(-_FAR, 1.25), (_FAR, 1.25), (_FAR, _FAR), (-_FAR, _FAR)]),
    "forehead": _ABOVE_BROWS,
    "eyes": both_sides(BROW + EYE),
    "nose": both_sides(NOSE),
    "mouth": np.concatenate([both_sides(MOUTH) * (1.2, 1.05) - (0, 0.05), both_sides([(-0.2, 0.64)])]),
}


def face_regions(size: tuple[int, int], landmarks: Sequence[Point]) -> NDArray[np.uint8]:
    """Return the region of every pixel of a (width, height) picture, from MTCNN's five landmarks in it.

    Returns:
        H×W uint8, indices into ``REGIONS``.
    """
    width, height = size
    regions = np.full((height, width), REGIONS.index("outside"), np.uint8)
    wanted = np.array(landmarks, np.float64)

    def inside(outline: Points, *, hull: bool = True) -> NDArray[np.bool_]:
        points = fit_points(LANDMARKS, wanted, outline).astype(np.float32)
        if hull:
            points = cv2.convexHull(points)[:, 0].astype(np.float32)
        mask = np.zeros((height, width), np.uint8)
        # Coordinates in 1/16 pixel (4 fractional bits).
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 1, shift=4)
        return mask.astype(np.bool_)

    face = inside(_FACE)
    regions[face] = REGIONS.index("cheeks")
    for name, outline in _PARTS.items():
        regions[face & inside(outline, hull=name != "forehead")] = REGIONS.index(name)
    return regions
