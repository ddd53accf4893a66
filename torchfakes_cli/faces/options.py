"""Options of face detection and cropping."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torchfakes_cli.errors import UsageError

#: Side in pixels to which a gray crop is resized before its sharpness is measured, so that one threshold applies to
#: faces of every size.
SHARPNESS_SIZE = 160


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """Options of face detection and cropping.

    Attributes:
        min_face: minimum side of a detected face, in pixels of the frame.
        confidence: minimum confidence of the face detector.
        margin: side of the crop divided by the longer side of the face's box.
        blur_threshold: minimum variance of the Laplacian for a crop to be scored.
    """

    min_face: int = 40
    confidence: float = 0.95
    margin: float = 1.3
    blur_threshold: float = 30.0

    @property
    def smallest(self) -> float:
        """Minimum side in pixels of a returned face; lower than ``min_face``, as boxes vary by a fifth over frames."""
        return 0.8 * self.min_face

    def __post_init__(self) -> None:
        if self.min_face < 12:
            raise UsageError("faces under 12 pixels can't be found: choose a minimum face of 12 or more")
        if not 0 < self.confidence < 1:
            raise UsageError("the face confidence must lie between 0 and 1")
        if not 0.5 <= self.margin <= 4:
            raise UsageError("the crop margin is a factor between 0.5 and 4")
        if not 0 <= self.blur_threshold < inf:
            raise UsageError("the blur threshold must be a number from 0 up")
