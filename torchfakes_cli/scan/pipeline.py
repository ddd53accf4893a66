"""One video, from file to verdict: frames → faces → tracks → sharp crops → scores → verdict.

Frames live for one batch and crops until the network has seen them, so memory doesn't grow with the video's length;
only the rows of the timeline do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.config import FaceConfig, ScanConfig
from torchfakes_cli.faces import Tracker, crop_face, sharpness
from torchfakes_cli.records import Face, FaceScore, Frame, Status, VideoResult
from torchfakes_cli.scan.ahead import batches_ahead
from torchfakes_cli.scan.second_look import SecondLook
from torchfakes_cli.scan.verdict import Policy, decide, settle_policy
from torchfakes_cli.video import IsolatedDecoder

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector import Detector
    from torchfakes_cli.faces.cascade import FaceDetector

#: Told how far a scan is: frames done, and frames wanted in all where that is known.
Progress = Callable[[int, int | None], None]

#: Crops given to the detector at once …
CROPS_AT_ONCE = 32
#: … or fewer, once they hold this many pixels: close-ups in 8K are large.
CROP_PIXELS_AT_ONCE = 1 << 24


def scan_video(
    path: str | PathLike[str],
    config: ScanConfig | None = None,
    *,
    detector: Detector | None = None,
    progress: Progress | None = None,
) -> VideoResult:
    """Scans one video.

    Args:
        path: of the file.
        config: what to look at and how to judge; None for the defaults.
        detector: from ``load_detector``; None loads the one that ships. Load it once to scan several files.
        progress: called after each batch of frames with (frames done, frames wanted if known).

    Returns:
        The result, with status ``ok``: a video without a face is a result too (``inconclusive``, ``no_face``).

    Raises:
        MediaError: the file can't be read, or too little of it.
        ModelError: the detector can't be loaded, or gives scores that are no numbers.
        UsageError: the configuration doesn't fit the file, the detector or this machine.

    Example::

        result = scan_video("clip.mp4")
        print(result.verdict, result.p_fake, result.reason)
    """
    with Scanner(config, detector=detector) as scanner:
        return scanner.scan(path, progress)


class Scanner:
    """Scans videos one after another with the same settings; its networks are loaded when the first file needs them.

    A context manager: files are decoded in a process of its own, which ends with it. That process gets ready while the
    networks are loaded.

    Args:
        config: None for the defaults.
        model: path of a checkpoint; None for the detector that ships.
        detector: one that is loaded already, instead of ``model``.

    Raises:
        TorchfakesError: the process can't be started.
    """

    def __init__(
        self,
        config: ScanConfig | None = None,
        *,
        model: str | PathLike[str] | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.config = config or ScanConfig()
        self._model = model
        self._given = detector
        self._decoder = IsolatedDecoder(timeout_s=self.config.timeout_s, memory_mb=self.config.memory_mb)
        self._decoder.start()

    def __enter__(self) -> Scanner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the decoding process; scanning another file starts a new one."""
        self._decoder.close()

    def load(self) -> None:
        """Loads everything now, so that what is wrong with it shows before the first file.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device, or the thresholds contradict each other.
        """
        # Named for their effect: what is loaded once stays.
        _ = self.policy, self._face_detector

    def scan(self, path: str | PathLike[str], progress: Progress | None = None) -> VideoResult:
        """Scans one video; see ``scan_video``."""
        started = time.monotonic()
        with self._decoder.open(path) as video:
            frames = video.frames(self.config.sampling)
            loading = time.monotonic()
            self.load()
            started += time.monotonic() - loading  # the scan's own time is what tells files and settings apart
            timeline = _Timeline(self.detector, self.config.faces)
            limits = {"max_frames": self.config.batch_frames, "max_pixels": self.config.batch_pixels}
            with closing(batches_ahead(frames, **limits)) as batches, ExitStack() as ending:
                ending.callback(video.stop)  # or else the thread would wait for its next frame
                for batch in batches:
                    pictures = [frame.pixels for frame in batch]
                    faces = self._face_detector.detect(pictures, any_size=True)
                    timeline.add(batch, faces, video.report.frames_wanted)
                    if progress:
                        progress(timeline.frames, video.report.frames_wanted or None)
            rows = timeline.finish()
            notes = timeline.explanations(self._face_detector)
            info, report = video.info, video.report
        decision = decide(rows, self.policy, self.detector.probability)
        return VideoResult(
            path=fspath(path),
            status=Status.OK,
            verdict=decision.verdict,
            p_fake=decision.p_fake,
            reason=decision.reason,
            info=info,
            frames_sampled=timeline.frames,
            timeline=rows,
            tracks=decision.tracks,
            peak_time_s=decision.peak_time_s,
            elapsed_s=time.monotonic() - started,
            model=self.detector.name,
            warnings=tuple(dict.fromkeys(info.warnings + report.warnings + notes)),
        )

    @cached_property
    def detector(self) -> Detector:
        """The detector, loaded when first asked for."""
        if self._given is not None:
            return self._given
        from torchfakes_cli.detector import load_detector

        return load_detector(self._model, self.config.device)

    @cached_property
    def policy(self) -> Policy:
        """How scores become verdicts: the user's numbers, and the detector's where there are none."""
        return settle_policy(
            self.config.verdict, fake_above=self.detector.fake_above, real_below=self.detector.real_below
        )

    @cached_property
    def _face_detector(self) -> FaceDetector:
        from torchfakes_cli.faces.cascade import FaceDetector

        return FaceDetector(self.config.faces, self.detector.device)


class _Timeline:
    """Gathers the rows of one video; a sharp face's score is filled in when a full batch of crops has been scored."""

    def __init__(self, detector: Detector, config: FaceConfig) -> None:
        self.frames = 0
        self._detector = detector
        self._config = config
        self._small = 0
        self._second_look = SecondLook(config)
        self._tracker = Tracker()
        self._rows: list[FaceScore] = []
        self._waiting: list[tuple[int, NDArray[np.uint8]]] = []
        self._waiting_pixels = 0

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

    def finish(self) -> tuple[FaceScore, ...]:
        """Scores what is still waiting; the rows in order of time."""
        self._score_waiting()
        return tuple(self._rows)

    def explanations(self, detector: FaceDetector) -> tuple[str, ...]:
        """What a user should know of faces that aren't in the timeline, in plain sentences."""
        if note := self._second_look.explain(detector):
            return (note,)
        if not self._small:
            return ()
        return (f"faces under {self._config.smallest:.0f} pixels left out: {self._small} (see --min-face)",)

    def _add_face(self, frame: Frame, face: Face, track: int) -> None:
        crop = crop_face(frame.pixels, face.box, self._detector.margin)
        sharp = sharpness(crop)
        note = "damaged" if frame.damaged else "blurry" if sharp < self._config.blur_threshold else ""
        self._rows.append(FaceScore(frame.time_s, frame.index, track, face, sharp, note=note))
        if note:
            return
        self._waiting.append((len(self._rows) - 1, crop))
        self._waiting_pixels += crop.shape[0] * crop.shape[1]
        if len(self._waiting) >= CROPS_AT_ONCE or self._waiting_pixels >= CROP_PIXELS_AT_ONCE:
            self._score_waiting()

    def _score_waiting(self) -> None:
        logits = self._detector.score([crop for _, crop in self._waiting])
        for (place, _), logit in zip(self._waiting, logits.tolist(), strict=True):
            p_fake = self._detector.probability(logit)
            self._rows[place] = replace(self._rows[place], logit=logit, p_fake=p_fake)
        self._waiting.clear()
        self._waiting_pixels = 0
