"""Soft masks over parts of a face: where one picture gives way to another.

An outline around the face, or a part of it, is fitted to MTCNN's five landmarks, jittered, bent as if drawn by hand,
filled and blurred, as the masks of face swappers are.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.outline import (
    BROW,
    CHEEK,
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

Mask = NDArray[np.float32]

#: Outlines that manipulations have been seen to use; a hull is drawn around each.
HULLS = {
    "face": both_sides(JAW + BROW),
    "face_and_forehead": both_sides(JAW + FOREHEAD),
    "inner_face": both_sides(BROW + CHEEK + MOUTH),
    "mouth_and_chin": both_sides(JAW[4:] + NOSE[:2]),
    "mouth": both_sides(MOUTH) * (1.25, 1.15) - (0, 0.15),
    "eyes_and_nose": both_sides(BROW + EYE + NOSE),
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
    points = fit_points(LANDMARKS, landmarks, outline)
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
