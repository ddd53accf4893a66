"""Soft masks over parts of a face: where one picture gives way to another.

An outline around the face, or a part of it, is fitted to MTCNN's five landmarks, jittered, bent as if drawn by hand,
filled and blurred, as the masks of face swappers are.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Mask = NDArray[np.float32]

# A mean face, in units of the distance between the pupils, origin between them, y down; the left half as seen in the
# picture, the right one is its mirror image. Averaged over the 142 faces with 189 landmarks in the Face Research Lab
# London Set (DeBruine and Jones 2017) and its Canadian companion (DeBruine), both CC BY 4.0, aligned by MTCNN's points.
LANDMARKS = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.53), (-0.4, 1.08), (0.4, 1.08)])
_JAW = [(-1.09, 0.07), (-1.1, 0.25), (-1.08, 0.42), (-1.06, 0.6), (-1.02, 0.82), (-0.97, 1.05), (-0.87, 1.29),
        (-0.63, 1.56), (-0.34, 1.74), (0.0, 1.81)]  # fmt: skip
_BROW = [(-0.91, -0.13), (-0.82, -0.29), (-0.66, -0.37), (-0.47, -0.36), (-0.22, -0.28)]
_FOREHEAD = [(-1.04, -0.3), (-0.95, -0.61), (-0.85, -0.92), (-0.64, -1.11), (0.0, -1.18)]
_EYE = [(-0.74, -0.03), (-0.64, -0.1), (-0.51, -0.13), (-0.38, -0.11), (-0.28, -0.05), (-0.38, 0.07), (-0.61, 0.07)]
_CHEEK = [(-0.95, 0.34), (-0.79, 0.47), (-0.58, 0.52)]
_NOSE = [(-0.28, 0.55), (-0.28, 0.64), (-0.11, -0.09)]
_MOUTH = [(-0.39, 1.08), (-0.25, 0.99), (-0.11, 0.93), (-0.28, 1.16), (-0.16, 1.21), (0.0, 1.22)]


def _both_sides(half: list[tuple[float, float]]) -> Points:
    return np.array(half + [(-x, y) for x, y in half if x])


#: Outlines that manipulations have been seen to use; a hull is drawn around each.
HULLS = {
    "face": _both_sides(_JAW + _BROW),
    "face_and_forehead": _both_sides(_JAW + _FOREHEAD),
    "inner_face": _both_sides(_BROW + _CHEEK + _MOUTH),
    "mouth_and_chin": _both_sides(_JAW[4:] + _NOSE[:2]),
    "mouth": _both_sides(_MOUTH) * (1.25, 1.15) - (0, 0.15),
    "eyes_and_nose": _both_sides(_BROW + _EYE + _NOSE),
}
_HULL_NAMES = tuple(HULLS)
_HULL_ODDS = np.array([0.32, 0.14, 0.24, 0.14, 0.06, 0.10])
#: A blur this wide in pixels loses nothing at half the size, nor one twice as wide at a quarter, and is much faster.
_WIDE = 3.0
#: Straight edges are cut into so many pieces before they are bent.
_PIECES = 8


def blending_mask(side: int, landmarks: Points, rng: np.random.Generator) -> Mask:
    """A soft mask over a part of the face.

    Args:
        side: of the mask in pixels.
        landmarks: 5×2, (x, y) in pixels: eyes, nose, mouth corners.
        rng: decides everything.

    Returns:
        side×side, 0 to 1.
    """
    name = _HULL_NAMES[int(rng.choice(len(_HULL_NAMES), p=_HULL_ODDS))]
    outline = HULLS[name] + rng.normal(0, 0.05, HULLS[name].shape)
    outline = (outline - (0, 0.5)) * rng.uniform(0.85, 1.08, 2) + (0, 0.5)
    points = _affine_fit(LANDMARKS, landmarks, outline)
    hull = np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float32)
    mask = np.zeros((side, side), np.uint8)
    # Four bits of a fraction of a pixel.
    cv2.fillPoly(mask, [np.rint(_bent(hull, side, rng) * 16).astype(np.int32)], 255, shift=4)
    soft = np.asarray(mask / 255, np.float32)
    face = float(np.linalg.norm(landmarks[1] - landmarks[0])) + 1
    for _ in range(2):
        soft = _blurred(soft, face * rng.uniform(0.02, 0.16))
        # Pulling the edge in between the blurs keeps the seam inside the face.
        soft = np.asarray(np.clip(soft * 2 - 1, 0, 1), np.float32) if rng.random() < 0.5 else soft
    peak = float(soft.max())
    return np.asarray(soft / max(peak, 1e-6), np.float32)


def _bent(hull: NDArray[np.float32], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Bend an outline as if drawn by hand, K×2 to more points: each is moved by a smooth random field."""
    along = np.linspace(0, 1, _PIECES, endpoint=False, dtype=np.float32)[None, :, None]
    points = (hull[:, None] * (1 - along) + np.roll(hull, -1, 0)[:, None] * along).reshape(-1, 2)
    field = rng.normal(0, 0.02 * side, (6, 6, 2)).astype(np.float32)
    x, y = ((points + 0.5) * (6 / side) - 0.5).astype(np.float32).T
    moves = cv2.remap(field, x[None], y[None], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)[0]
    return np.asarray(points + moves, np.float32)


def _blurred(mask: Mask, sigma: float) -> Mask:
    """Gaussian blur by ``sigma`` pixels; wide ones at a smaller size."""
    side, shrink = mask.shape[0], next((by for by in (4, 2) if sigma >= by * _WIDE / 2), 1)
    if shrink == 1:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)
    small = cv2.resize(mask, (-(-side // shrink),) * 2, interpolation=cv2.INTER_AREA)
    # Averaging and interpolating blur as well: together by a variance of about a quarter of a small pixel.
    blurred = cv2.GaussianBlur(small, (0, 0), float(np.sqrt((sigma / shrink) ** 2 - 0.25)))
    return np.asarray(cv2.resize(blurred, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _affine_fit(known: Points, wanted: Points, points: Points) -> Points:
    """Carry points along with the least-squares affine map that takes ``known`` to ``wanted``, each K×2."""
    design = np.c_[known, np.ones(len(known))]
    matrix, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    return np.asarray(np.c_[points, np.ones(len(points))] @ matrix)
