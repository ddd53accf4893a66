"""A second look at a few frames of a video in which no face was found, or none that is sure to stand upright.

Faces smaller than the smallest one looked for aren't found, nor are faces on their side or upside down. In some of
those frames the face detector takes something else for an upright face instead, and a score of it says nothing. To look
for all of them in every frame would take several times as long, so a few frames are looked at, of doubtful videos only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.records import Face

if TYPE_CHECKING:
    from torchfakes_cli.faces.cascade import FaceDetector

Pixels = NDArray[np.uint8]

#: Pixels kept in all, so that the second look takes about as long as the first one at any size …
PIXELS_KEPT = 1 << 21
#: … but at least one frame, and at most so many.
MOST_KEPT = 32
#: Frames that are turned to look for faces that don't stand upright: they rarely do so in a part of a video alone.
TURNED = 4
#: Pixels that each of these is reduced to, at most.
TURNED_PIXELS = 1 << 19
#: They are turned unless this share of the sampled frames has a face of this confidence with its landmarks in order.
#: Of 147 upright clips 131 have; of 87 turned copies of 29 clips none has.
SURE_SHARE = 2 / 3
SURE = 0.99
#: Faces don't stand upright where a turn gives at least this evidence, and this many times that of the frames as they
#: are. The evidence of a face is the number of nines in its confidence, up to four, where its landmarks are in order;
#: that of some frames is the mean over them. Of 29 clips 28 had 2.6 or more upright and at most 1.65, and 0.51 times as
#: much, when turned; the other, a drawn portrait, had 0.4 and nothing.
EVIDENCE = 2.0
CLEARLY_MORE = 1.5
#: Smaller faces than this hold nothing that a network could judge.
SMALLEST_FACE = 12

_TURNS = {1: "on their side", 2: "upside down", 3: "on their side"}


class SecondLook:
    """Keeps a few frames of a video, to look at them again.

    Args:
        config: of the first look.
    """

    def __init__(self, config: FaceConfig) -> None:
        self._config = config
        self._frames = 0
        self._sure = 0
        self._without_face: list[Pixels] | None = []
        self._reduced: list[Pixels] = []

    def keep(self, pixels: Pixels, faces: Sequence[Face], frames_wanted: int) -> None:
        """Takes the next frame with the faces found in it, and keeps it if it is one of an even choice."""
        place, self._frames = self._frames, self._frames + 1
        self._sure += any(face.confidence >= SURE and in_order(face) for face in faces)
        if len(self._reduced) < TURNED and _chosen(place, frames_wanted, TURNED):
            self._reduced.append(_reduced(pixels))
        if faces:
            self._without_face = None  # there are no smaller faces to tell of
        elif self._without_face is not None:
            room = min(MOST_KEPT, max(1, PIXELS_KEPT // (pixels.shape[0] * pixels.shape[1])))
            if len(self._without_face) < room and _chosen(place, frames_wanted, room):
                self._without_face.append(pixels)

    def small_faces(self, detector: FaceDetector) -> str:
        """Tells of faces too small to be looked for, if no face was found and some are there; else empty."""
        if not self._without_face:
            return ""
        smallest = max(SMALLEST_FACE, self._config.min_face // 2)
        if smallest < self._config.min_face:
            found = detector.detect(self._without_face, replace(self._config, min_face=smallest))
            # What is large enough was looked for already: a search that is more patient finds more that isn't a face.
            small = [face.size for faces in found for face in faces if face.size < self._config.smallest]
            if small:
                return (
                    f"there are faces of up to {max(small):.0f} pixels, too small to be looked for: "
                    f"try --min-face {smallest}"
                )
        return ""

    def turn(self, detector: FaceDetector) -> str:
        """How faces lie that don't stand upright, such as ``upside down``; empty where they do, or there are none."""
        if not self._reduced or self._sure >= SURE_SHARE * self._frames:
            return ""
        evidence = {quarters: self._evidence(detector, quarters) for quarters in (0, *_TURNS)}
        best = max(_TURNS, key=lambda quarters: evidence[quarters])
        # Where nothing stands upright, any face that does when turned explains why.
        found = evidence[best] > 0 if self._without_face is not None else evidence[best] >= EVIDENCE
        return _TURNS[best] if found and evidence[best] >= CLEARLY_MORE * evidence[0] else ""

    def _evidence(self, detector: FaceDetector, quarters: int) -> float:
        """Evidence of upright faces once the frames are turned by so many quarters."""
        pictures = [np.ascontiguousarray(np.rot90(pixels, quarters)) for pixels in self._reduced]
        found = detector.detect(pictures, self._config)
        nines = [[-math.log10(max(1e-4, 1 - face.confidence)) for face in faces if in_order(face)] for faces in found]
        return sum(max(each, default=0.0) for each in nines) / len(nines)


def in_order(face: Face) -> bool:
    """True where the landmarks are those of an upright face: eyes side by side and apart, nose and mouth below."""
    (left_x, left_y), (right_x, right_y), (_, nose_y), (_, mouth_left_y), (_, mouth_right_y) = face.landmarks
    apart = right_x - left_x
    side_by_side = apart >= 0.25 * (face.box[2] - face.box[0]) and abs(right_y - left_y) <= 0.5 * apart
    return side_by_side and (left_y + right_y) / 2 < nose_y < (mouth_left_y + mouth_right_y) / 2


def _chosen(place: int, count: int, room: int) -> bool:
    """Whether a place is the last one of one of ``room`` equal parts of ``count`` places."""
    return place * room // count < (place + 1) * room // count


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = math.sqrt(TURNED_PIXELS / (height * width))
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
