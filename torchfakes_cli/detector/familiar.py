"""How far the detail of a face lies outside of what the shipped detector was fitted and calibrated on.

Compression, resizing and mild softness are among what it has seen. Noise, patterns of screens, drawings, strong filters
and faint contrast aren't: there the logit says little. What tells them is coarser than what tells a fake: how strong
each band of detail is on the whole face, and how that fits the other bands. See docs/experiments.md, "When no verdict
is given", for what was measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.detector.texture import SHAPE, STRENGTHS

Values = NDArray[np.float64]

#: Logarithms of the bands' strengths, fine to coarse, as ``texture.describe`` gives them, averaged over the face and
#: over 4,800 crops of 153 videos, real and fake: those that the shipped texture is fitted on. Brightness …
LUMA = np.array([-0.135, 0.499, 1.03, 1.548])
#: … and the inverse of their covariance, its diagonal raised by .002;
LUMA_PRECISION = np.array(
    [
        [112.4, -126.7, 30.4, -0.4],
        [-126.7, 246.8, -146.5, 18.1],
        [30.4, -146.5, 205.5, -95.2],
        [-0.4, 18.1, -95.2, 89.2],
    ]
)
#: of the mean of both colours the same.
CHROMA = np.array([-1.238, -1.014, -0.644, -0.187])
CHROMA_PRECISION = np.array(
    [
        [121.0, -99.1, 30.5, -13.6],
        [-99.1, 232.1, -138.6, 16.2],
        [30.5, -138.6, 216.9, -111.8],
        [-13.6, 16.2, -111.8, 99.0],
    ]
)
#: Distances (root of the mean square, 1 being usual) beyond which a face is unlike those. Together with ``FAINT`` they
#: take the firm verdicts of 4 of the 109 undamaged videos that had one, each judged by limits found without it.
LUMA_LIMIT = 1.65
CHROMA_LIMIT = 2.0
#: Logarithm of the coarsest band's strength in brightness under which the picture has too little contrast.
FAINT = 0.77
#: Under this strength of its coarsest band of colours a picture is grey, and its colours say nothing.
GREY = -1.5


def strangeness(described: NDArray[np.float32]) -> NDArray[np.float32]:
    """How unlike the usual the detail of faces is.

    Args:
        described: N×``texture.LENGTH``, as ``texture.describe`` gives them.

    Returns:
        N float32: 1 is the limit, above which a score says little.
    """
    bands = described[:, :STRENGTHS].reshape(-1, SHAPE[0], SHAPE[1] * SHAPE[2], SHAPE[3]).mean(2, dtype=np.float64)
    luma, chroma = bands[..., 0], bands[..., 1:].mean(2)
    of_luma = _distance(luma - LUMA, LUMA_PRECISION) / LUMA_LIMIT
    of_chroma = np.where(chroma[:, -1] < GREY, 0, _distance(chroma - CHROMA, CHROMA_PRECISION) / CHROMA_LIMIT)
    faint = np.exp(FAINT - luma[:, -1])
    return np.asarray(np.maximum(np.maximum(of_luma, of_chroma), faint), np.float32)


def _distance(offsets: Values, precision: Values) -> Values:
    """Mahalanobis distance, per root of the dimension."""
    squares = np.einsum("ni,ij,nj->n", offsets, precision, offsets)
    return np.asarray(np.sqrt(squares / offsets.shape[1]), np.float64)
