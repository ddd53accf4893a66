"""Options of face detection and cropping."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torchfakes_cli.errors import UsageError

#: Side in pixels to which a grey crop is resized before its sharpness is measured, so that the threshold means the
#: same for a small face and a large one.
SHARPNESS_SIZE = 160


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """How faces are detected and cropped.

    Attributes:
        min_face: smallest side of a face to detect, in pixels of the frame.
        confidence: faces below this detector confidence are dropped.
        margin: factor by which a face's box grows into its crop.
        blur_threshold: a crop with a lower variance of the Laplacian gets no score.
    """

    min_face: int = 40
    confidence: float = 0.95
    margin: float = 1.3
    blur_threshold: float = 30.0

    @property
    def smallest(self) -> float:
        """Side in pixels from which a face counts: boxes of one face differ by a fifth from frame to frame."""
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
