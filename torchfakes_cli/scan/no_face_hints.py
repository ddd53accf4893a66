"""Hints why no face was found: a second search of a few frames for small or rotated faces.

The face detector misses faces below its minimum size, and faces that lie on their side or upside down. In frames with
rotated faces it may detect something else as an upright face, whose score is meaningless. A search for all of these in
every frame would take several times as long. Therefore only a few frames are searched again, and only of videos in
which no face was found or too few faces are certainly upright.
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
    from torchfakes_cli.faces.mtcnn import FaceDetector

Pixels = NDArray[np.uint8]

#: Total pixels of frames kept for the search for small faces, so that it takes about as long as the first search.
PIXELS_KEPT = 1 << 21
#: Largest number of frames kept for the search for small faces; the smallest is one.
MOST_KEPT = 32
#: Number of frames searched for rotated faces. A few suffice, because faces are rarely rotated in a part of a video.
TURNED = 4
#: Largest number of pixels of each of these frames, which are downscaled to it.
TURNED_PIXELS = 1 << 19
#: No search for rotated faces in a clip if this share of its sampled frames has a face with at least the confidence
#: ``SURE`` and with its landmarks in order. This holds for 131 of 147 upright clips, and for none of 87 rotated copies
#: of 29 clips. Stills are always searched: an upside-down one of 30 had such a face.
SURE_SHARE = 2 / 3
SURE = 0.99
#: Faces count as rotated if some rotation of the frames gives at least the evidence ``EVIDENCE``, and ``CLEARLY_MORE``
#: times that of the frames as they are. The evidence of a face with its landmarks in order is the number of nines in
#: its confidence, up to four; the evidence of several frames is the mean over them. Of 29 clips, 28 had an evidence of
#: at least 2.6 when upright, and of at most 1.65 and 0.51 times as much when rotated; the other, a drawn portrait, had
#: 0.4 and 0. Of 56 upright stills, none had more than 0.75 times as much when rotated.
EVIDENCE = 2.0
CLEARLY_MORE = 1.25
#: Smallest face in pixels that is searched for; a network can't judge smaller ones.
SMALLEST_FACE = 12

_TURNS = {1: "on their side", 2: "upside down", 3: "on their side"}


class NoFaceHints:
    """Keeps a few frames of a video and searches them for small or rotated faces.

    Args:
        config: configuration of the first search.
    """

    def __init__(self, config: FaceConfig) -> None:
        self._config = config
        self._frames = 0
        self._sure = 0
        self._without_face: list[Pixels] | None = []
        self._reduced: list[Pixels] = []

    def keep(self, pixels: Pixels, faces: Sequence[Face], frames_wanted: int) -> None:
        """Add the next frame with its faces; keep its pixels if it is one of the evenly spaced frames to search."""
        place, self._frames = self._frames, self._frames + 1
        self._sure += any(face.confidence >= SURE and in_order(face) for face in faces)
        if len(self._reduced) < TURNED and _chosen(place, frames_wanted, TURNED):
            self._reduced.append(_reduced(pixels))
        if faces:
            self._without_face = None  # small faces are searched for only where no face was found
        elif self._without_face is not None:
            most = min(MOST_KEPT, max(1, PIXELS_KEPT // (pixels.shape[0] * pixels.shape[1])))
            if len(self._without_face) < most and _chosen(place, frames_wanted, most):
                self._without_face.append(pixels)

    def small_faces(self, detector: FaceDetector) -> str:
        """Return a hint if no face was found but there are faces below the minimum size; otherwise an empty string."""
        if not self._without_face:
            return ""
        smallest = max(SMALLEST_FACE, self._config.min_face // 2)
        if smallest < self._config.min_face:
            found = detector.detect(self._without_face, replace(self._config, min_face=smallest))
            # Faces of the minimum size were searched for already; a more sensitive search finds false ones.
            small = [face.size for faces in found for face in faces if face.size < self._config.smallest]
            if small:
                return (
                    f"there are faces of up to {max(small):.0f} pixels, too small to be searched for: "
                    f"try --min-face {smallest}"
                )
        return ""

    def orientation(self, detector: FaceDetector) -> str:
        """Return how rotated faces lie, such as ``upside down``; an empty string if there are none."""
        few = self._frames <= TURNED  # a still or a very short clip: one false face would be all of it
        if not self._reduced or (not few and self._sure >= SURE_SHARE * self._frames):
            return ""
        evidence = {quarters: self._evidence(detector, quarters) for quarters in (0, *_TURNS)}
        best = max(_TURNS, key=lambda quarters: evidence[quarters])
        # If no upright face was found, any face in rotated frames explains why.
        found = evidence[best] > 0 if self._without_face is not None else evidence[best] >= EVIDENCE
        return _TURNS[best] if found and evidence[best] >= CLEARLY_MORE * evidence[0] else ""

    def _evidence(self, detector: FaceDetector, quarters: int) -> float:
        """Return the evidence of upright faces after rotation of the frames by ``quarters`` quarter turns."""
        pictures = [np.ascontiguousarray(np.rot90(pixels, quarters)) for pixels in self._reduced]
        found = detector.detect(pictures, self._config)
        nines = [[-math.log10(max(1e-4, 1 - face.confidence)) for face in faces if in_order(face)] for faces in found]
        return sum(max(each, default=0.0) for each in nines) / len(nines)


def in_order(face: Face) -> bool:
    """Return True if the landmarks are those of an upright face: eyes side by side and apart, nose and mouth below."""
    (left_x, left_y), (right_x, right_y), (_, nose_y), (_, mouth_left_y), (_, mouth_right_y) = face.landmarks
    apart = right_x - left_x
    side_by_side = apart >= 0.25 * (face.box[2] - face.box[0]) and abs(right_y - left_y) <= 0.5 * apart
    return side_by_side and (left_y + right_y) / 2 < nose_y < (mouth_left_y + mouth_right_y) / 2


def _chosen(place: int, count: int, parts: int) -> bool:
    """Return True if a place is the last one in one of ``parts`` equal parts of ``count`` places."""
    return place * parts // count < (place + 1) * parts // count


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = math.sqrt(TURNED_PIXELS / (height * width))
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
