"""Outline of a mean face and its alignment to MTCNN's five landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: K×2 array of (x, y).
Points = NDArray[np.float64]

# A mean face in units of the distance between the pupils, with the origin between them and y down. Only the picture's
# left half is listed; the right half mirrors it. Averaged over 142 faces with 189 landmarks in the Face Research Lab
# London Set (DeBruine and Jones 2017) and its Canadian companion (DeBruine), both CC BY 4.0, aligned by MTCNN's points.
LANDMARKS = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.53), (-0.4, 1.08), (0.4, 1.08)])
JAW = [(-1.09, 0.07), (-1.1, 0.25), (-1.08, 0.42), (-1.06, 0.6), (-1.02, 0.82), (-0.97, 1.05), (-0.87, 1.29),
       (-0.63, 1.56), (-0.34, 1.74), (0.0, 1.81)]  # fmt: skip
BROW = [(-0.91, -0.13), (-0.82, -0.29), (-0.66, -0.37), (-0.47, -0.36), (-0.22, -0.28)]
FOREHEAD = [(-1.04, -0.3), (-0.95, -0.61), (-0.85, -0.92), (-0.64, -1.11), (0.0, -1.18)]
EYE = [(-0.74, -0.03), (-0.64, -0.1), (-0.51, -0.13), (-0.38, -0.11), (-0.28, -0.05), (-0.38, 0.07), (-0.61, 0.07)]
CHEEK = [(-0.95, 0.34), (-0.79, 0.47), (-0.58, 0.52)]
NOSE = [(-0.28, 0.55), (-0.28, 0.64), (-0.11, -0.09)]
MOUTH = [(-0.39, 1.08), (-0.25, 0.99), (-0.11, 0.93), (-0.28, 1.16), (-0.16, 1.21), (0.0, 1.22)]


def both_sides(half: list[tuple[float, float]]) -> Points:
    """Returns the points of the left half and their mirror images."""
    return np.array(half + [(-x, y) for x, y in half if x])


def fit_points(known: Points, wanted: Points, points: Points) -> Points:
    """Transforms points by the least-squares affine map from ``known`` to ``wanted``, each K×2."""
    design = np.c_[known, np.ones(len(known))]
    matrix, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    return np.asarray(np.c_[points, np.ones(len(points))] @ matrix)
