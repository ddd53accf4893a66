"""How much neighbouring pixels of a face's fine detail depend on each other, whatever the light and the contrast.

Enlarging, smoothing, sharpening and encoding leave other dependences than a camera does, which the strength of the
detail alone doesn't show. They are measured as correlations with a pixel's neighbours, at coarser places than the
strength, for they take more pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

#: Places a row and a column; mirror images count as one.
GRID = 8
#: Neighbours of a pixel: beside it, above and below, diagonal, two pixels beside it, two above and below.
NEIGHBOURS = (
    np.array([[0.5, 0, 0.5]], np.float32),
    np.array([[0.5], [0], [0.5]], np.float32),
    np.array([[0.25, 0, 0.25], [0, 0, 0], [0.25, 0, 0.25]], np.float32),
    np.array([[0.5, 0, 0, 0, 0.5]], np.float32),
    np.array([[0.5], [0], [0], [0], [0.5]], np.float32),
)
#: Added to variances, in squared grey levels: where there is no detail, correlations are 0.
NOISE = 0.05
#: Correlations differ from face to face a fifth as much as logarithms of strengths do. With this factor the
#: discriminant's ridge weighs a little more on them (seven tenths of equal spread), which was chosen with it.
GAIN = 3.3


def correlations(bands: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Correlate bands of detail with their neighbours.

    Args:
        bands: S×S×C float32 each, with the mean 0 nearly everywhere.

    Returns:
        (Bands × ``NEIGHBOURS``) × ``GRID`` × ``GRID`` / 2 × C float32, ``GAIN`` times the correlations.
    """
    found = []
    for band in bands:
        variance = _covariances(band, band) + np.float32(NOISE)
        for kernel in NEIGHBOURS:
            around = np.asarray(cv2.filter2D(band, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)
            found.append(_covariances(band, around) / variance)
    both = np.stack(found) * np.float32(GAIN / 2)
    return np.asarray((both + both[:, :, ::-1])[:, :, : GRID // 2], np.float32)


def _covariances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of the products over each place, ``GRID`` × ``GRID`` × C, of two S×S×C with means near 0."""
    side, _, colours = one.shape
    pixels = side // GRID
    rows = np.einsum("pyx,pyx->px", one.reshape(GRID, pixels, -1), other.reshape(GRID, pixels, -1))
    return np.asarray(rows @ _shares(side, colours), np.float32).reshape(GRID, GRID, colours)


@cache
def _shares(side: int, colours: int) -> NDArray[np.float32]:
    """What each value of a row adds to the mean of each place: NumPy sums over an axis in the middle more slowly."""
    pixels = side // GRID
    place = np.kron(np.full((pixels, 1), pixels**-2), np.eye(colours))
    return np.kron(np.eye(GRID), place).astype(np.float32)
