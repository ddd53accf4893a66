"""From the faces found in a video's frames to the rows of its timeline, scored together with those of other videos."""

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
from torchfakes_cli.faces.tracking import Tracker
from torchfakes_cli.records import Face, FaceScore, Frame
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.second_look import SecondLook
from torchfakes_cli.scan.threads import computing_threads, set_threads

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.cascade import FaceDetector

#: Crops given to the detector at once, half as many where faces are searched in the meantime: that takes memory too,
#: and fewer are left for when all faces are found …
CROPS_AT_ONCE = 32
#: … or fewer, once they hold this many pixels: close-ups in 8K are large.
CROP_PIXELS_AT_ONCE = 1 << 24
#: In a long shot of a person (a track), all of the first so many faces are scored that are fit to be …
ALL_UP_TO = 64
#: … and one in so many of those after them; the others get the note ``LONG_SHOT`` and no score.
THEN_ONE_IN = 4
LONG_SHOT = "long_shot"


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A crop to be scored.

    Attributes:
        timeline: whose it is.
        row: of the timeline.
        crop: see ``Detector.score``.
    """

    timeline: Timeline
    row: int
    crop: NDArray[np.uint8]


class Scoring:
    """Crops of several videos that wait until they make a full batch, and the batch that is being scored.

    The detector works in a thread of its own, so that faces are found meanwhile.

    Args:
        detector: that scores them.
        profile: told how long that takes.
        finished: called, in that thread, after each batch.
    """

    def __init__(self, detector: Detector, profile: Profile, finished: Callable[[], None]) -> None:
        self.detector = detector
        self._profile = profile
        self._finished = finished
        self._waiting: list[_Waiting] = []
        self._pixels = 0
        import torch

        # Said once here, or the thread would begin with whatever another one computes with at that moment.
        threads = (torch.get_num_threads(),)
        self._thread = ThreadPoolExecutor(1, "score", initializer=set_threads, initargs=threads)
        self._scored: list[_Waiting] = []
        self._logits: Future[list[float]] | None = None

    def full(self, *, shared: bool = False) -> bool:
        """Whether enough wait for a batch; ``shared`` as for ``begin``."""
        return len(self._waiting) >= _at_once(shared) or self._pixels >= CROP_PIXELS_AT_ONCE

    @property
    def busy(self) -> bool:
        """Whether a batch is being scored."""
        return self._logits is not None and not self._logits.done()

    @property
    def done(self) -> bool:
        """Whether a batch has been scored, and not been entered yet."""
        return self._logits is not None and self._logits.done()

    def holds(self, timeline: Timeline | None) -> bool:
        """Whether crops of a video wait, beside those that are being scored."""
        return any(each.timeline is timeline for each in self._waiting)

    def add(self, waiting: _Waiting) -> None:
        """Takes a crop that belongs to a row of a timeline."""
        self._waiting.append(waiting)
        self._pixels += waiting.crop.shape[0] * waiting.crop.shape[1]
        waiting.timeline.unscored += 1

    def begin(self, *, shared: bool) -> None:
        """Begins to score what waits, once the batch before has been entered.

        Args:
            shared: whether something else is computed beside it.
        """
        assert self._logits is None, "the batch before has been entered"
        self._scored, self._waiting, self._pixels = self._waiting, [], 0
        scored, at_once = self._scored, _at_once(shared)
        parts = [scored[start : start + at_once] for start in range(0, len(scored), at_once)]

        def score() -> list[float]:
            with self._profile.stage("scoring faces", len(scored), beside=True), computing_threads(shared=shared):
                return [logit for part in parts for logit in self._score(part)]

        self._logits = self._thread.submit(score)
        self._logits.add_done_callback(lambda _: self._finished())

    def enter(self) -> list[tuple[Timeline, Exception]]:
        """Waits for the batch that is being scored, if there is one, and fills in its scores.

        Where that failed, its videos' crops are scored once more, each video's alone.

        Returns:
            The videos whose crops can't be scored, and why.
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
        """Forgets the crops of a video that failed."""
        timeline.unscored = 0
        self._waiting = [each for each in self._waiting if each.timeline is not timeline]
        self._pixels = sum(each.crop.shape[0] * each.crop.shape[1] for each in self._waiting)

    def _score(self, waiting: Sequence[_Waiting]) -> list[float]:
        return list(self.detector.score([each.crop for each in waiting]).tolist())

    def _fill_in(self, scored: Sequence[_Waiting], logits: Sequence[float]) -> None:
        for each, logit in zip(scored, logits, strict=True):
            if each.timeline.unscored:  # else it has been dropped meanwhile
                each.timeline.set_score(each.row, logit, self.detector.probability(logit))

    def close(self) -> None:
        """Ends the thread, after the batch that is being scored."""
        self._thread.shutdown()


def _at_once(shared: bool) -> int:
    return CROPS_AT_ONCE // 2 if shared else CROPS_AT_ONCE


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
        self._fit: Counter[int] = Counter()  # faces fit to be scored, by track

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
            self._second_look.keep(frame.pixels, faces, max(frames_wanted, self.frames))
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

    def conclude(self, detector: FaceDetector) -> tuple[str, ...]:
        """Take a second look at a doubtful video once all frames are in.

        Where faces lie on their side or upside down, what was taken for upright faces leaves the timeline.

        Returns:
            What a user should know of faces that aren't in the timeline, in plain sentences.
        """
        if note := self._second_look.small_faces(detector):
            return (note,)
        if lie := self._second_look.turn(detector):
            taken = "; what was taken for upright faces doesn't count" if any(row.face for row in self._rows) else ""
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
