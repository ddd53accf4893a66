"""A real face for tests: ``skimage.data.astronaut()``, a NASA portrait in the public domain."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

Pixels = NDArray[np.uint8]

#: Center of the face in the portrait, and its height, in pixels.
FACE_CENTER = (223.0, 118.0)
FACE_HEIGHT = 110.0


def portrait() -> Pixels:
    """512×512×3 RGB."""
    return np.ascontiguousarray(data.astronaut())


def scene(size: tuple[int, int], center: tuple[float, float], face_height: float) -> Pixels:
    """A gray (width, height) picture into which the portrait's head is put at a place and size."""
    scale = face_height / FACE_HEIGHT
    matrix = np.array([[scale, 0, center[0] - scale * FACE_CENTER[0]], [0, scale, center[1] - scale * FACE_CENTER[1]]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(
        cv2.warpAffine(portrait(), matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=(90, 90, 90)),
        np.uint8,
    )
