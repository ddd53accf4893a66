"""A video without a face is looked at again, with more patience, to tell its user why there may be none.

Faces smaller than what was looked for, and faces that lie on their side or upside down, are found by nobody who doesn't
look for them. Looking for both in every frame would cost several times the scan, so it is done for a few frames of
those videos alone of which there is nothing else to say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.options import FaceConfig

if TYPE_CHECKING:
    from torchfakes_cli.faces.cascade import FaceDetector

Pixels = NDArray[np.uint8]

#: Pixels kept in all, so that the second look takes about as long as the first one at any size …
PIXELS_KEPT = 1 << 21
#: … but at least one frame, and at most so many.
MOST_KEPT = 32
#: Frames that are turned to look for faces that don't stand upright: they rarely do so in a part of a video alone.
TURNED = 4
#: Smaller faces than this hold nothing that a network could judge.
SMALLEST_FACE = 12

_TURNS = {1: "on their side", 2: "upside down", 3: "on their side"}


class SecondLook:
    """Keeps a few frames of a video until a face is found in it.

    Args:
        config: of the first look.
    """

    def __init__(self, config: FaceConfig) -> None:
        self._config = config
        self._seen = 0
        self._kept: list[Pixels] | None = []

    def keep(self, pixels: Pixels, frames_wanted: int) -> None:
        """Takes the next of so many frames, in which no face was found; keeps it if it is one of an even choice."""
        if self._kept is None:
            return
        room = min(MOST_KEPT, frames_wanted, max(1, PIXELS_KEPT // (pixels.shape[0] * pixels.shape[1])))
        # The last one of each of `room` equal parts.
        if self._seen * room // frames_wanted < (self._seen + 1) * room // frames_wanted:
            self._kept.append(pixels)
        self._seen += 1

    def forget(self) -> None:
        """A face was found: there is nothing to explain."""
        self._kept = None

    def explain(self, detector: FaceDetector) -> str:
        """What the frames kept hold after all, as a plain sentence; empty where nothing, or nothing was kept."""
        if not self._kept:
            return ""
        smallest = max(SMALLEST_FACE, self._config.min_face // 2)
        if smallest < self._config.min_face:
            found = detector.detect(self._kept, replace(self._config, min_face=smallest))
            # What is large enough was looked for already: a search that is more patient finds more that isn't a face.
            small = [face.size for faces in found for face in faces if face.size < self._config.smallest]
            if small:
                return (
                    f"there are faces of up to {max(small):.0f} pixels, too small to be looked for: "
                    f"try --min-face {smallest}"
                )
        few = self._kept[:: -(-len(self._kept) // TURNED)]
        turned = {quarters: self._faces_turned(detector, few, quarters) for quarters in _TURNS}
        best = max(turned, key=lambda quarters: turned[quarters])
        if not turned[best]:
            return ""
        return f"faces lie {_TURNS[best]}: turn the video upright and scan it again"

    def _faces_turned(self, detector: FaceDetector, kept: list[Pixels], quarters: int) -> int:
        """How many faces there are once the pictures are turned by so many quarters."""
        pictures = [np.ascontiguousarray(np.rot90(pixels, quarters)) for pixels in kept]
        return sum(len(faces) for faces in detector.detect(pictures, self._config))
