"""Scan several videos at once: many decoders, one face detector, one classifier.

Each video is decoded in a process and a thread of its own (``Prefetcher``). This thread passes frames of several videos
to one call of the face detector, and collects crops of several videos into one batch of the classifier, which runs in
another thread. Frames are kept for one batch and crops until they are scored, so that memory doesn't grow with the
length of a video; only the rows of its timeline do. Results come in the order of the videos unless asked otherwise.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike, fspath
from threading import Condition
from typing import TYPE_CHECKING

from torchfakes_cli.errors import StoppedError, TorchfakesError
from torchfakes_cli.faces.follow import FaceFollower
from torchfakes_cli.records import Face, Frame, Status, VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.decoders import Decoders
from torchfakes_cli.scan.prefetch import LOOK_UP_S, Batch, Prefetcher
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.threads import computing_threads
from torchfakes_cli.scan.timeline import Scoring, Timeline
from torchfakes_cli.scan.verdict import Policy, decide

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.cascade import FaceDetector

logger = logging.getLogger(__name__)

#: Called with (path of the video, frames done, total frames wanted if known).
FolderProgress = Callable[[str, int, int | None], None]

#: Largest number of videos that are in progress, or done and waiting for an earlier one: while a long video is scanned,
#: this many shorter ones after it can be.
WINDOW = 64


@dataclass(frozen=True, slots=True)
class Networks:
    """The face detector, the detector and the verdict policy.

    Attributes:
        face_detector: loaded face detector.
        judging: future of the detector, which may still be loading while faces are detected, and of the policy.
    """

    face_detector: FaceDetector
    judging: Future[tuple[Detector, Policy]]

    @property
    def detector(self) -> Detector:
        """The detector; waits until it is loaded, and raises the error if it can't be."""
        return self.judging.result()[0]

    @property
    def policy(self) -> Policy:
        """The policy; waits until the detector is loaded, and raises the error if it can't be."""
        return self.judging.result()[1]


@dataclass(frozen=True, slots=True)
class ScanOutcome:
    """The result of one video, or the error that prevented it.

    Attributes:
        path: path of the video.
        elapsed_s: seconds from its opening to its result, without the loading of networks. Other videos may have been
            scanned concurrently.
        result: result of its scan; None after an error.
        error: error that prevented a result; None otherwise.
    """

    path: str
    elapsed_s: float
    result: VideoResult | None = None
    error: Exception | None = None


def result_of(outcome: ScanOutcome) -> VideoResult:
    """Return the result of a scan; after an error, a result with status ``error``."""
    if outcome.result is not None:
        return outcome.result
    error = outcome.error
    logger.debug("%s", outcome.path, exc_info=error)
    if not isinstance(error, TorchfakesError):
        reason = " ".join(str(error).split()) or "no message"
        error = TorchfakesError(f"unexpected {type(error).__name__}: {reason}")
    return failed(outcome.path, error, outcome.elapsed_s)


def failed(path: str | PathLike[str], error: TorchfakesError, elapsed_s: float = 0.0) -> VideoResult:
    """Return the ``error`` result of a file that couldn't be scanned; its message doesn't repeat the path."""
    message = f"{error.cause}. {error.advice}" if error.advice else error.cause
    return VideoResult(path=fspath(path), status=Status.ERROR, elapsed_s=elapsed_s, error=message, scanned_at=utc_now())


def utc_now() -> str:
    """Return the time in UTC as ISO 8601, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Scan:
    """A video that is being scanned."""

    def __init__(self, prefetcher: Prefetcher) -> None:
        self.prefetcher = prefetcher
        self.follower: FaceFollower | None = None
        self.timeline: Timeline | None = None
        self.outcome: ScanOutcome | None = None
        self.decoded = False

    @property
    def unscored(self) -> int:
        """Number of faces that are not scored yet."""
        return self.timeline.unscored if self.timeline else 0


class Scheduler:
    """Scans videos with one set of networks.

    Args:
        config: configuration of the scans.
        decoders: pool of decoding processes; its size limits the videos decoded at once.
        networks: loads the networks; called once, when the first video is open.
        profile: records the time of each stage.
        threads: number of decoding threads per video; None for one per core, or one fewer if frames are small.
        progress: called after each batch of frames with (path, frames done, frames wanted if known).
        stop: called ten times a second or before each batch of frames; the scans end once it returns True.
        arrived: called as often if videos are added during the scan; returns True if a video is waiting.
        in_order: yield outcomes in the order of the videos; otherwise as soon as they are known.
    """

    def __init__(
        self,
        config: ScanConfig,
        decoders: Decoders,
        networks: Callable[[], Networks],
        profile: Profile,
        threads: int | None = None,
        progress: FolderProgress | None = None,
        stop: Callable[[], bool] | None = None,
        *,
        arrived: Callable[[], bool] | None = None,
        in_order: bool = True,
    ) -> None:
        self._threads = threads
        self._config = config
        self._decoders = decoders
        self._load = networks
        self._profile = profile
        self._progress = progress
        self._stop = stop or (lambda: False)
        self._arrived = arrived or (lambda: False)
        self._in_order = in_order
        self._changed = Condition()
        self._scans: deque[_Scan] = deque()
        self._networks: Networks | None = None
        self._scoring: Scoring | None = None

    def run(self, paths: Iterable[str | PathLike[str] | None]) -> Generator[ScanOutcome, None, None]:
        """Scan videos; close the generator to stop early.

        Args:
            paths: paths of the videos; the next is taken when a decoder is free. None if no video is waiting at the
                moment.

        Yields:
            One outcome per path.

        Raises:
            TorchfakesError: the networks can't be loaded.
            StoppedError: ``stop`` returned True.
        """
        upcoming = iter(paths)
        try:
            while True:
                if self._stop():
                    raise StoppedError("the scan was stopped")
                self._begin(upcoming)
                if not self._scans:
                    return
                if (done := self._done()) is not None:
                    self._scans.remove(done)
                    assert done.outcome is not None
                    yield done.outcome
                    continue
                self._step()
        finally:
            for scan in self._scans:
                self._release(scan)
            if self._scoring is not None:
                self._scoring.close()

    def _done(self) -> _Scan | None:
        """Return the scan whose outcome is yielded next; None if no such outcome is known yet."""
        candidates = [self._scans[0]] if self._in_order else self._scans
        return next((scan for scan in candidates if scan.outcome is not None), None)

    def _begin(self, upcoming: Iterator[str | PathLike[str] | None]) -> None:
        """Start decoding the next videos while decoders are free."""
        while len(self._scans) < WINDOW and (decoder := self._decoders.take()) is not None:
            path = next(upcoming, None)
            if path is None:
                self._decoders.give_back(decoder)
                return
            prefetcher = Prefetcher(
                path,
                decoder,
                self._config.sampling,
                threads=self._threads,
                max_frames=self._config.batch_frames,
                max_pixels=self._config.batch_pixels,
                max_length_s=self._config.max_length_s,
                copy_bytes=self._config.copy_mb << 20,
                changed=self._changed,
            )
            self._scans.append(_Scan(prefetcher))

    def _release(self, scan: _Scan) -> None:
        """Return the decoder of a video to the pool."""
        if not scan.decoded:
            scan.decoded = True
            scan.prefetcher.close()
            self._decoders.give_back(scan.prefetcher.decoder)

    def _step(self) -> None:
        """Wait for frames, scores or the end of a video, and process them."""
        scores_alone = self._scoring and self._scoring.busy and not any(scan.prefetcher.busy for scan in self._scans)
        with self._profile.stage("waiting for scores" if scores_alone else "waiting for frames"):
            self._wait()
        if self._networks is None and any(scan.prefetcher.opened for scan in self._scans):
            with self._loading():
                self._networks = self._load()
        group = self._take()
        if group:
            self._process(group)
        for scan in self._scans:
            if scan.prefetcher.ended and not scan.prefetcher.next_frames and not scan.decoded:
                self._release(scan)
                if scan.prefetcher.error is not None:
                    self._fail(scan, scan.prefetcher.error)
        if self._scoring is not None:
            self._score(self._scoring)
        if self._networks is not None:
            for scan in self._scans:
                if scan.decoded and scan.outcome is None and not scan.unscored:
                    self._conclude(scan, self._networks)

    def _wait(self) -> None:
        """Wait for frames, scores, the end or arrival of a video, or the first open one, which needs the networks."""
        with self._changed:
            while not any(
                scan.prefetcher.next_frames
                or (scan.prefetcher.ended and not scan.decoded)
                or (scan.prefetcher.opened and not self._networks)
                for scan in self._scans
            ) and not (
                (self._scoring and (self._scoring.done or self._due(self._scoring)))
                or (self._decoders.some_free and self._arrived())
                or self._stop()
            ):
                self._changed.wait(LOOK_UP_S)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Exclude the time of the block, which loads networks, from the elapsed times of videos."""
        started = time.monotonic()
        with self._profile.stage("loading the networks"):
            yield
        for scan in self._scans:
            scan.prefetcher.started += time.monotonic() - started

    def _scores(self, networks: Networks) -> Scoring:
        """Return the scoring of crops; wait until the detector is loaded."""
        if self._scoring is None:
            with self._loading():
                self._scoring = Scoring(networks.detector, self._profile, self._notify)
        return self._scoring

    def _take(self) -> list[tuple[_Scan, Batch]]:
        """Take batches for one call of the face detector, in the order of the videos."""
        group: list[tuple[_Scan, Batch]] = []
        room = self._config.batch_frames
        for scan in self._scans:
            if 0 < scan.prefetcher.next_frames <= room or (scan.prefetcher.next_frames and not group):
                batch = scan.prefetcher.take()
                room -= len(batch.frames)
                if scan.outcome is None:  # batches of a failed video are discarded
                    group.append((scan, batch))
        return group

    def _process(self, group: list[tuple[_Scan, Batch]]) -> None:
        """Detect the faces in batches and add them to the timelines of their videos."""
        assert self._networks is not None, "loaded when the first video was open"
        for (scan, batch), found in zip(group, self._detect(self._networks.face_detector, group), strict=True):
            if found is None:
                continue
            if scan.timeline is None:
                scan.timeline = Timeline(self._scores(self._networks), self._config.faces)
            try:
                with self._profile.stage("following and cropping faces", sum(map(len, found))):
                    scan.timeline.add(batch.frames, found, batch.wanted)
            except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
                self._fail(scan, error)
                continue
            if self._progress:
                self._progress(scan.prefetcher.path, scan.timeline.frames, batch.wanted or None)

    def _detect(self, detector: FaceDetector, group: list[tuple[_Scan, Batch]]) -> list[list[list[Face]] | None]:
        """Detect the faces in each batch; None for a batch that failed, which also ends its video.

        Faces are followed through closely spaced samples, video by video. All other frames are searched in one call.
        """
        found: dict[int, list[list[Face]] | None] = {}
        searched = []
        for number, (scan, batch) in enumerate(group):
            if scan.follower is None:
                scan.follower = FaceFollower(detector)
            if scan.follower.follows(batch.frames):
                found[number] = self._guarded(scan, batch, scan.follower.find)
            else:
                searched.append(number)
        pictures = [frame.pixels for number in searched for frame in group[number][1].frames]
        try:
            with self._profile.stage("detecting faces", len(pictures)), self._computing():
                faces = iter(detector.detect(pictures, any_size=True))
            found.update({number: [next(faces) for _ in group[number][1].frames] for number in searched})
        except Exception:  # noqa: BLE001 - each video is searched again alone, to find the one that fails

            def search(frames: Sequence[Frame]) -> list[list[Face]]:
                return detector.detect([frame.pixels for frame in frames], any_size=True)

            found.update({number: self._guarded(*group[number], search) for number in searched})
        return [found[number] for number in range(len(group))]

    def _computing(self) -> AbstractContextManager[None]:
        """Share the cores between the face detector and concurrent scoring, decoding and loading."""
        loading = self._networks is None or not self._networks.judging.done()
        scoring = self._scoring is not None and self._scoring.busy
        return computing_threads(shared=loading or scoring or any(scan.prefetcher.busy for scan in self._scans))

    def _guarded(
        self, scan: _Scan, batch: Batch, find: Callable[[Sequence[Frame]], list[list[Face]]]
    ) -> list[list[Face]] | None:
        """Detect the faces in one batch; after an error return None and fail its video."""
        try:
            with self._profile.stage("detecting faces", len(batch.frames)), self._computing():
                return find(batch.frames)
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self._fail(scan, error)
            return None

    def _due(self, scoring: Scoring) -> bool:
        """True if crops are to be scored next: a full batch, or the last crops of a video that blocks others."""
        if scoring.busy or scoring.done:
            return False  # one batch at a time; its scores are entered before the next begins
        rests = [scan for scan in self._scans if scan.decoded and scan.timeline and scoring.holds(scan.timeline)]
        more = any(scan.prefetcher.next_frames for scan in self._scans)
        return scoring.full(shared=self._searching) or (bool(rests) and (rests[0] is self._scans[0] or not more))

    @property
    def _searching(self) -> bool:
        """True if frames are queued or being decoded, so that faces will be detected during the scoring."""
        return any(scan.prefetcher.next_frames or scan.prefetcher.busy for scan in self._scans)

    def _score(self, scoring: Scoring) -> None:
        """Enter finished scores into timelines, and start the next batch if it is due."""
        if scoring.full() and scoring.busy:
            with self._profile.stage("waiting for scores"):
                self._enter(scoring)
        elif scoring.done:
            self._enter(scoring)
        if self._due(scoring):
            scoring.begin(shared=self._searching)

    def _enter(self, scoring: Scoring) -> None:
        for timeline, error in scoring.enter():
            for scan in [scan for scan in self._scans if scan.timeline is timeline]:
                self._fail(scan, error)

    def _fail(self, scan: _Scan, error: Exception) -> None:
        self._release(scan)
        if self._scoring and scan.timeline:
            self._scoring.drop(scan.timeline)
        scan.outcome = ScanOutcome(scan.prefetcher.path, time.monotonic() - scan.prefetcher.started, error=error)

    def _conclude(self, scan: _Scan, networks: Networks) -> None:
        timeline = scan.timeline or Timeline(self._scores(networks), self._config.faces)
        try:
            with self._profile.stage("judging"):
                result = _result(scan.prefetcher, timeline, networks)
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self._fail(scan, error)
            return
        scan.outcome = ScanOutcome(scan.prefetcher.path, result.elapsed_s, result)


def _result(prefetcher: Prefetcher, timeline: Timeline, networks: Networks) -> VideoResult:
    """Make the result from the rows of a video's timeline."""
    assert prefetcher.info is not None
    assert prefetcher.report is not None
    notes = timeline.conclude(networks.face_detector)
    picture = prefetcher.info.picture
    decision = decide(timeline.rows, networks.policy, networks.detector.probability, picture=picture)
    return VideoResult(
        path=fspath(prefetcher.path),
        status=Status.OK,
        verdict=decision.verdict,
        p_fake=decision.p_fake,
        reason=decision.reason,
        info=prefetcher.info,
        frames_sampled=timeline.frames,
        timeline=timeline.rows,
        tracks=decision.tracks,
        peak_time_s=decision.peak_time_s,
        elapsed_s=time.monotonic() - prefetcher.started,
        model=networks.detector.name,
        warnings=tuple(dict.fromkeys(prefetcher.info.warnings + prefetcher.report.warnings + notes)),
        sha256=prefetcher.sha256,
        scanned_at=utc_now(),
        fake_above=networks.policy.fake_above,
        real_below=networks.policy.real_below,
        source=prefetcher.source,
    )
