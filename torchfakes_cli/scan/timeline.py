"""Timelines: turn the faces of a video's frames into scored rows, in batches shared with other videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.crops import crop_face, sharpness
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.tracking import FaceTracker
from torchfakes_cli.records import Face, FaceScore, Frame
from torchfakes_cli.scan.no_face_hints import NoFaceHints
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.threads import computing_threads, set_threads

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.mtcnn import FaceDetector

#: Number of crops in a batch of the detector. It is halved while faces are detected concurrently, which saves memory
#: and leaves fewer crops to score after the last detection.
CROPS_AT_ONCE = 32
#: Number of pixels that also completes a batch, because close-ups in 8K are large.
CROP_PIXELS_AT_ONCE = 1 << 24
#: Number of faces of a track that are all scored, not counting damaged and blurry ones.
ALL_UP_TO = 64
#: Beyond ``ALL_UP_TO``, one face in this many is scored; the others get the note ``LONG_SHOT`` and no score.
THEN_ONE_IN = 4
LONG_SHOT = "long_shot"


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A crop to be scored.

    Attributes:
        timeline: timeline of its video.
        row: index of its row in the timeline.
        crop: pixels, as ``Detector.score`` takes them.
    """

    timeline: Timeline
    row: int
    crop: NDArray[np.uint8]


class Scoring:
    """Scores crops of several videos in batches: a queue of crops and the batch being scored.

    The detector runs in a thread of its own, so that faces are detected concurrently.

    Args:
        detector: detector that scores the crops.
        profile: records the time of scoring.
        finished: called in the scoring thread after each batch.
    """

    def __init__(self, detector: Detector, profile: Profile, finished: Callable[[], None]) -> None:
        self.detector = detector
        self._profile = profile
        self._finished = finished
        self._waiting: list[_Waiting] = []
        self._pixels = 0
        import torch

        # Fixed here, because a new thread would start with another thread's number of the moment.
        threads = (torch.get_num_threads(),)
        self._thread = ThreadPoolExecutor(1, "score", initializer=set_threads, initargs=threads)
        self._scored: list[_Waiting] = []
        self._logits: Future[list[float]] | None = None

    def full(self, *, shared: bool = False) -> bool:
        """Return True if enough crops are queued for a batch; ``shared`` as for ``begin``."""
        return len(self._waiting) >= _at_once(shared) or self._pixels >= CROP_PIXELS_AT_ONCE

    @property
    def busy(self) -> bool:
        """True if a batch is being scored."""
        return self._logits is not None and not self._logits.done()

    @property
    def done(self) -> bool:
        """True if a batch has been scored, but not entered yet."""
        return self._logits is not None and self._logits.done()

    def holds(self, timeline: Timeline | None) -> bool:
        """Return True if crops of a video are queued, not counting those being scored."""
        return any(each.timeline is timeline for each in self._waiting)

    def add(self, waiting: _Waiting) -> None:
        """Add a crop to the queue."""
        self._waiting.append(waiting)
        self._pixels += waiting.crop.shape[0] * waiting.crop.shape[1]
        waiting.timeline.unscored += 1

    def begin(self, *, shared: bool) -> None:
        """Begin to score the queued crops; the previous batch must have been entered.

        Args:
            shared: True if something else is computed concurrently.
        """
        assert self._logits is None, "the previous batch has been entered"
        self._scored, self._waiting, self._pixels = self._waiting, [], 0
        scored, at_once = self._scored, _at_once(shared)
        parts = [scored[start : start + at_once] for start in range(0, len(scored), at_once)]

        def score() -> list[float]:
            with self._profile.stage("scoring faces", len(scored), beside=True), computing_threads(shared=shared):
                return [logit for part in parts for logit in self._score(part)]

        self._logits = self._thread.submit(score)
        self._logits.add_done_callback(lambda _: self._finished())

    def enter(self) -> list[tuple[Timeline, Exception]]:
        """Wait for the batch being scored, if any, and enter its scores into the timelines.

        If the batch failed, its crops are scored again, video by video.

        Returns:
            Timelines of the videos whose crops can't be scored, each with the error.
        """
        if self._logits is None:
            return []
        scored, logits = self._scored, self._logits
        self._scored, self._logits = [], None
        with suppress(Exception):
            self._fill_in(scored, logits.result())
            return []
        failed = []
        for timeline in {each.timeline for each in scored if each.timeline.unscored}:
            own = [each for each in scored if each.timeline is timeline]
            try:
                self._fill_in(own, self._score(own))
            except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
                failed.append((timeline, error))
        return failed

    def drop(self, timeline: Timeline) -> None:
        """Discard the crops of a video that failed."""
        timeline.unscored = 0
        self._waiting = [each for each in self._waiting if each.timeline is not timeline]
        self._pixels = sum(each.crop.shape[0] * each.crop.shape[1] for each in self._waiting)

    def _score(self, waiting: Sequence[_Waiting]) -> list[float]:
        return list(self.detector.score([each.crop for each in waiting]).tolist())

    def _fill_in(self, scored: Sequence[_Waiting], logits: Sequence[float]) -> None:
        for each, logit in zip(scored, logits, strict=True):
            if each.timeline.unscored:  # 0 if the video was dropped during scoring
                each.timeline.set_score(each.row, logit, self.detector.probability(logit))

    def close(self) -> None:
        """End the thread after the batch being scored."""
        self._thread.shutdown()


def _at_once(shared: bool) -> int:
    return CROPS_AT_ONCE // 2 if shared else CROPS_AT_ONCE


class Timeline:
    """Timeline of one video: its rows so far.

    Args:
        scoring: scores the crops.
        config: smallest face and blur threshold.

    Attributes:
        frames: number of frames added.
        unscored: number of rows whose score is pending.
    """

    def __init__(self, scoring: Scoring, config: FaceConfig) -> None:
        self.frames = 0
        self.unscored = 0
        self._scoring = scoring
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

    def set_score(self, row: int, logit: float, p_fake: float) -> None:
        """Enter the score of a row."""
        self._rows[row] = replace(self._rows[row], logit=logit, p_fake=p_fake)
        self.unscored -= 1

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
            self._drop_faces()
            return (f"faces lie {lie}: turn the video upright and scan it again{taken}",)
        if not self._small:
            return ()
        return (f"faces under {self._config.smallest:.0f} pixels left out: {self._small} (see --min-face)",)

    def _drop_faces(self) -> None:
        rows: dict[tuple[float, int | None], FaceScore] = {}
        for row in self._rows:
            note = "damaged" if row.note == "damaged" else "no_face"
            rows.setdefault((row.time_s, row.frame), FaceScore(row.time_s, row.frame, note=note))
        self._rows = list(rows.values())

    def _add_face(self, frame: Frame, face: Face, track: int) -> None:
        detector = self._scoring.detector
        crop = crop_face(frame.pixels, face.box, detector.margin, detector.crop_shape)
        sharp = sharpness(crop)
        note = "damaged" if frame.damaged else "blurry" if sharp < self._config.blur_threshold else ""
        if not note:
            beyond = self._fit[track] - ALL_UP_TO
            self._fit[track] += 1
            note = LONG_SHOT if beyond >= 0 and beyond % THEN_ONE_IN else ""
        self._rows.append(FaceScore(frame.time_s, frame.index, track, face, sharp, note=note))
        if not note:
            self._scoring.add(_Waiting(self, len(self._rows) - 1, crop))
