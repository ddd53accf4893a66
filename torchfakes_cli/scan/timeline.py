"""From the faces found in a video's frames to the rows of its timeline, scored together with those of other videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.config import FaceConfig
from torchfakes_cli.faces import Tracker, crop_corner, crop_face, sharpness
from torchfakes_cli.records import Face, FaceScore, Frame
from torchfakes_cli.scan.second_look import SecondLook

if TYPE_CHECKING:
    from torchfakes_cli.detector import Detector
    from torchfakes_cli.faces.cascade import FaceDetector

#: Crops given to the detector at once …
CROPS_AT_ONCE = 32
#: … or fewer, once they hold this many pixels: close-ups in 8K are large.
CROP_PIXELS_AT_ONCE = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    timeline: Timeline
    row: int
    crop: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


class Scoring:
    """Crops of several videos that wait until they make a full batch.

    Args:
        detector: that scores them.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._waiting: list[_Waiting] = []
        self._pixels = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether there are enough for a batch."""
        return len(self._waiting) >= CROPS_AT_ONCE or self._pixels >= CROP_PIXELS_AT_ONCE

    def add(self, timeline: Timeline, row: int, crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
        """Takes the crop that belongs to a row of a timeline, with the landmarks of its face (5×2, in its pixels)."""
        self._waiting.append(_Waiting(timeline, row, crop, landmarks))
        self._pixels += crop.shape[0] * crop.shape[1]
        timeline.unscored += 1

    def score(self, only: Timeline | None = None) -> None:
        """Scores what waits, of one video or of all; what fails still waits.

        Raises:
            Exception: whatever the network raises, memory that is out for example.
        """
        waiting = [each for each in self._waiting if only in (None, each.timeline)]
        logits = self.detector.score([each.crop for each in waiting], [each.landmarks for each in waiting])
        for each, logit in zip(waiting, logits.tolist(), strict=True):
            each.timeline.set_score(each.row, logit, self.detector.probability(logit))
        self._keep([each for each in self._waiting if only not in (None, each.timeline)])

    def drop(self, timeline: Timeline) -> None:
        """Forgets the crops of a video that failed."""
        timeline.unscored = 0
        self._keep([each for each in self._waiting if each.timeline is not timeline])

    def _keep(self, waiting: list[_Waiting]) -> None:
        self._waiting = waiting
        self._pixels = sum(each.crop.shape[0] * each.crop.shape[1] for each in waiting)


class Timeline:
    """Gathers the rows of one video.

    Args:
        scoring: takes the crops to be scored.
        config: which faces count.

    Attributes:
        frames: seen until now.
        unscored: rows whose score is still to come.
    """

    def __init__(self, scoring: Scoring, config: FaceConfig) -> None:
        self.frames = 0
        self.unscored = 0
        self._scoring = scoring
        self._config = config
        self._small = 0
        self._second_look = SecondLook(config)
        self._tracker = Tracker()
        self._rows: list[FaceScore] = []

    @property
    def rows(self) -> tuple[FaceScore, ...]:
        """In order of time."""
        return tuple(self._rows)

    def add(self, frames: Sequence[Frame], found_in: Sequence[Sequence[Face]], frames_wanted: int) -> None:
        """Adds the faces of a batch of frames, of which there will be so many in all."""
        for frame, found in zip(frames, found_in, strict=True):
            self.frames += 1
            faces = [face for face in found if face.size >= self._config.smallest]
            self._small += len(found) - len(faces)
            if faces:
                self._second_look.forget()
            else:
                self._second_look.keep(frame.pixels, max(frames_wanted, self.frames))
            tracks = self._tracker.update(frame, faces)
            if not faces:
                note = "damaged" if frame.damaged else "no_face"
                self._rows.append(FaceScore(frame.time_s, frame.index, note=note))
            for face, track in zip(faces, tracks, strict=True):
                self._add_face(frame, face, track)

    def set_score(self, row: int, logit: float, p_fake: float) -> None:
        """Fills in the score of a row."""
        self._rows[row] = replace(self._rows[row], logit=logit, p_fake=p_fake)
        self.unscored -= 1

    def explanations(self, detector: FaceDetector) -> tuple[str, ...]:
        """What a user should know of faces that aren't in the timeline, in plain sentences."""
        if note := self._second_look.explain(detector):
            return (note,)
        if not self._small:
            return ()
        return (f"faces under {self._config.smallest:.0f} pixels left out: {self._small} (see --min-face)",)

    def _add_face(self, frame: Frame, face: Face, track: int) -> None:
        detector = self._scoring.detector
        crop = crop_face(frame.pixels, face.box, detector.margin, detector.crop_shape)
        sharp = sharpness(crop)
        note = "damaged" if frame.damaged else "blurry" if sharp < self._config.blur_threshold else ""
        self._rows.append(FaceScore(frame.time_s, frame.index, track, face, sharp, note=note))
        if not note:
            corner = crop_corner(frame.size, face.box, detector.margin, detector.crop_shape)
            landmarks = np.array(face.landmarks, np.float32) - np.array(corner, np.float32)
            self._scoring.add(self, len(self._rows) - 1, crop, landmarks)
