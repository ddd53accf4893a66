"""Which of a person's frames are near duplicates of others."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

#: Side in pixels of the thumbnails that are compared: small enough to average an encoder's noise away.
THUMBNAIL = 24
#: Of a crop that nothing is compared with: the largest difference there can be.
UNLIKE_ANY = 255.0


def novelties(crops: Sequence[NDArray[np.uint8]]) -> list[float]:
    """How much each crop of a track adds to the others, for every threshold at once.

    Crops are taken in the order of a farthest-first traversal (Gonzalez, "Clustering to minimize the maximum
    intercluster distance", 1985): the first one, then always the one that is least like all taken before. Each gets its
    difference to the nearest of these. Those with at least *t* therefore differ from one another by *t* or more, and
    each that is left out differs from one of them by less.

    Args:
        crops: S×S×3 uint8 RGB of one track, in order of time.

    Returns:
        Mean absolute differences of their grey thumbnails, 0 to 255; 255 for the first crop.
    """
    if not crops:
        return []
    small = np.stack([_thumbnail(crop) for crop in crops])
    found = np.full(len(crops), UNLIKE_ANY)
    nearest = np.full(len(crops), np.inf)
    taken = 0
    left = np.ones(len(crops), bool)
    left[0] = False
    while left.any():
        nearest = np.minimum(nearest, np.abs(small - small[taken]).mean(axis=1))
        taken = int(np.argmax(np.where(left, nearest, -1.0)))
        found[taken] = nearest[taken]
        left[taken] = False
    return [float(value) for value in found]


def _thumbnail(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
