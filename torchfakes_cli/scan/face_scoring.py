"""Face scoring: turn the faces of a video's frames into the scored rows of its timeline.

Each face is cropped; damaged and blurry ones are left out; the crops of several videos are scored in one batch.

The face detector misses faces below its minimum size, and faces that lie on their side or upside down. In frames with
rotated faces it may detect something else as an upright face, whose score is meaningless. A search for all of these in
every frame would take several times as long. Therefore only a few frames are searched again, and only of videos in
which no face was found or too few faces are certainly upright.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.crops import crop_face, is_blurry, sharpness
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.tracking import FaceTracker
from torchfakes_cli.records import Face, FaceScore, Frame

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.mtcnn import FaceDetector

Pixels = NDArray[np.uint8]

#: Number of crops that completes a batch of the detector.
CROPS_AT_ONCE = 32
#: Number of pixels that also completes a batch, because close-ups in 8K are large.
CROP_PIXELS_AT_ONCE = 1 << 24
#: Number of faces of a track that are all scored, not counting damaged and blurry ones.
ALL_UP_TO = 64
#: Beyond ``ALL_UP_TO``, one face in this many is scored; the others get the note ``long_shot`` and no score.
THEN_ONE_IN = 4

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


class Timeline:
    """Timeline of one video: its rows so far."""

    def __init__(self, detector: Detector, config: FaceConfig) -> None:
        self.frames = 0
        #: Crops to be scored, each with the index of its row.
        self.waiting: list[tuple[int, Pixels]] = []
        self._detector = detector
        self._config = config
        self._small = 0
        self._hints = NoFaceHints(config)
        self._tracker = FaceTracker()
        self._rows: list[FaceScore] = []
        self._fit: Counter[int] = Counter()  # neither damaged nor blurry faces, by track

    @property
    def rows(self) -> tuple[FaceScore, ...]:
        """Rows so far, in order of time."""
        return tuple(self._rows)

    def add(self, frames: Sequence[Frame], found_in: Sequence[Sequence[Face]], frames_wanted: int) -> None:
        """Add the next frames and the faces of each.

        Args:
            frames: next frames of the video.
            found_in: faces of each frame.
            frames_wanted: number of frames that will be sampled from the whole video; 0 if not known.
        """
        for frame, found in zip(frames, found_in, strict=True):
            self.frames += 1
            faces = [face for face in found if face.size >= self._config.smallest]
            self._small += len(found) - len(faces)
            self._hints.keep(frame.pixels, faces, max(frames_wanted, self.frames))
            tracks = self._tracker.update(frame, faces)
            if not faces:
                note = "damaged" if frame.damaged else "no_face"
                self._rows.append(FaceScore(frame.time_s, frame.index, note=note))
            for face, track in zip(faces, tracks, strict=True):
                self._add_face(frame, face, track)

    def _add_face(self, frame: Frame, face: Face, track: int) -> None:
        crop = crop_face(frame.pixels, face.box, self._detector.margin, self._detector.crop_shape)
        sharp = sharpness(crop)
        note = ""
        if frame.damaged:
            note = "damaged"
        elif is_blurry(sharp, self._config.blur_threshold):
            note = "blurry"
        else:
            beyond = self._fit[track] - ALL_UP_TO
            self._fit[track] += 1
            if beyond >= 0 and beyond % THEN_ONE_IN:
                note = "long_shot"
        if not note:
            self.waiting.append((len(self._rows), crop))
        self._rows.append(FaceScore(frame.time_s, frame.index, track, face, sharp, note=note))

    def score(self, logits: Sequence[float]) -> None:
        """Enter the scores of the waiting crops."""
        for (row, _), logit in zip(self.waiting, logits, strict=True):
            self._rows[row] = replace(self._rows[row], logit=logit, p_fake=self._detector.probability(logit))
        self.waiting = []

    def conclude(self, detector: FaceDetector) -> tuple[str, ...]:
        """Search for small or rotated faces after the last frame, if no or hardly any upright faces were found.

        If faces are rotated, all detections are removed from the timeline, because they aren't upright faces.

        Returns:
            Warnings about faces that aren't in the timeline, in plain sentences.
        """
        if note := self._hints.small_faces(detector):
            return (note,)
        if lie := self._hints.orientation(detector):
            taken = "; the faces detected as upright don't count" if any(row.face for row in self._rows) else ""
            rows: dict[tuple[float, int | None], FaceScore] = {}
            for row in self._rows:
                note = "damaged" if row.note == "damaged" else "no_face"
                rows.setdefault((row.time_s, row.frame), FaceScore(row.time_s, row.frame, note=note))
            self._rows = list(rows.values())
            return (f"faces lie {lie}: turn the video upright and scan it again{taken}",)
        if not self._small:
            return ()
        return (f"faces under {self._config.smallest:.0f} pixels left out: {self._small} (see --min-face)",)


def is_full(timelines: Sequence[Timeline]) -> bool:
    """Return True if the waiting crops of some videos complete a batch."""
    crops = [crop for timeline in timelines for _, crop in timeline.waiting]
    return len(crops) >= CROPS_AT_ONCE or sum(crop.size // 3 for crop in crops) >= CROP_PIXELS_AT_ONCE


def score_waiting(detector: Detector, timelines: Sequence[Timeline]) -> dict[Timeline, Exception]:
    """Score the waiting crops of some videos together; if that fails, those of each video alone.

    Returns:
        Errors of the timelines whose crops can't be scored.
    """
    crops = [crop for timeline in timelines for _, crop in timeline.waiting]
    try:
        logits = detector.score(crops).tolist()
    except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
        if len(timelines) == 1:
            return {timelines[0]: error}
        return {key: value for timeline in timelines for key, value in score_waiting(detector, [timeline]).items()}
    for timeline in timelines:
        count = len(timeline.waiting)
        timeline.score(logits[:count])
        logits = logits[count:]
    return {}


class NoFaceHints:
    """Keeps a few frames of a video and searches them for small or rotated faces."""

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
