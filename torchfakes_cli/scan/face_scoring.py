"""Face scoring: turn the faces of a video's frames into the scored rows of its timeline.

Each face is cropped; damaged and blurry ones are left out; the crops of several videos are scored in one batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.crops import crop_face, is_blurry, sharpness
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.tracking import FaceTracker
from torchfakes_cli.records import Face, FaceScore, Frame
from torchfakes_cli.scan.no_face_hints import NoFaceHints

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.mtcnn import FaceDetector

#: Number of crops that completes a batch of the detector.
CROPS_AT_ONCE = 32
#: Number of pixels that also completes a batch, because close-ups in 8K are large.
CROP_PIXELS_AT_ONCE = 1 << 24
#: Number of faces of a track that are all scored, not counting damaged and blurry ones.
ALL_UP_TO = 64
#: Beyond ``ALL_UP_TO``, one face in this many is scored; the others get the note ``long_shot`` and no score.
THEN_ONE_IN = 4


class Timeline:
    """Timeline of one video: its rows so far.

    Args:
        detector: scores the crops.
        config: smallest face and blur threshold.

    Attributes:
        frames: number of frames added.
        waiting: crops to be scored, each with the index of its row.
    """

    def __init__(self, detector: Detector, config: FaceConfig) -> None:
        self.frames = 0
        self.waiting: list[tuple[int, NDArray[np.uint8]]] = []
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
        """Add the faces of a batch of frames.

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
