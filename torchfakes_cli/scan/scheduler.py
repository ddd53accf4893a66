"""Scan several videos at once: many decoders, one face detector, one detector.

Each video is decoded in a process and a thread of its own (``Prefetcher``). Meanwhile this thread passes frames of
several videos to one call of the face detector, and crops of several videos to one call of the detector. Frames are
kept for one batch and crops until they are scored, so that memory doesn't grow with the length of a video; only the
rows of its timeline do.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike, fspath
from threading import Condition
from typing import TYPE_CHECKING

from torchfakes_cli.detector.calibration import error_rates
from torchfakes_cli.errors import StoppedError, TorchfakesError
from torchfakes_cli.faces.tracking import FaceFollower
from torchfakes_cli.records import Face, Frame, Status, VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.face_scoring import Timeline, is_full, score_waiting
from torchfakes_cli.scan.prefetch import WAIT_S, DecoderPool, Prefetcher
from torchfakes_cli.scan.verdict import Policy, decide

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.mtcnn import FaceDetector

logger = logging.getLogger(__name__)

#: Called with (path of the video, frames done, total frames wanted if known).
FolderProgress = Callable[[str, int, int | None], None]

#: Largest number of videos that are in progress, or done and waiting for an earlier one: while a long video is scanned,
#: this many shorter ones after it can be.
WINDOW = 64


class Profile:
    """Time spent in each stage of a scan.

    Attributes:
        seconds: seconds per stage, in order of first use. Decoding runs concurrently; its stage is the wait for frames.
        counts: number of items (frames, faces) processed per stage.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.counts: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: str, count: int = 0) -> Iterator[None]:
        """Add the time of the block, which processes ``count`` items, to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started
            self.counts[name] += count


@dataclass(frozen=True, slots=True)
class Networks:
    """The loaded face detector and detector, and the verdict policy with the detector's thresholds."""

    face_detector: FaceDetector
    detector: Detector
    policy: Policy


@dataclass(frozen=True, slots=True)
class ScanOutcome:
    """The result of one video, or the error that prevented it.

    Attributes:
        path: path of the video.
        elapsed_s: seconds from its opening to its result, without the loading of networks. Other videos may have been
            scanned concurrently.
        result: result of its scan, or the error that prevented it.
    """

    path: str
    elapsed_s: float
    result: VideoResult | Exception


def result_of(outcome: ScanOutcome) -> VideoResult:
    """Return the result of a scan; after an error, a result with status ``error``."""
    error = outcome.result
    if isinstance(error, VideoResult):
        return error
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
    """A video that is being scanned; its timeline and follower exist once its first frames are searched."""

    def __init__(self, prefetcher: Prefetcher) -> None:
        self.prefetcher = prefetcher
        self.follower: FaceFollower | None = None
        self.timeline: Timeline | None = None
        self.outcome: ScanOutcome | None = None
        self.released = False

    @property
    def drained(self) -> bool:
        """True if decoding has ended and all frames were taken, but the decoder is not released yet."""
        return self.prefetcher.ended and not self.prefetcher.next_frames and not self.released

    @property
    def waits_for_scores(self) -> bool:
        """True if it has crops to be scored."""
        return self.outcome is None and self.timeline is not None and bool(self.timeline.waiting)


class Scheduler:
    """Scans videos with one set of networks.

    Args:
        config: configuration of the scans.
        decoders: pool of decoding processes; its size limits the videos decoded at once.
        load: loads the networks; called once, when the first video is open.
        profile: records the time of each stage.
        threads: number of decoding threads per video; None for one per core, or one fewer if frames are small.
        progress: called after each batch of frames with (path, frames done, frames wanted if known).
        stop: called several times a second or before each batch of frames; the scans end once it returns True.
        endless: more videos may arrive at any time; outcomes come as soon as they are known.
    """

    def __init__(
        self,
        config: ScanConfig,
        decoders: DecoderPool,
        load: Callable[[], Networks],
        profile: Profile,
        threads: int | None = None,
        progress: FolderProgress | None = None,
        stop: Callable[[], bool] | None = None,
        *,
        endless: bool = False,
    ) -> None:
        self._config = config
        self._decoders = decoders
        self._load = load
        self._profile = profile
        self._threads = threads
        self._progress = progress
        self._stop = stop or (lambda: False)
        self._endless = endless
        self._changed = Condition()
        self._scans: deque[_Scan] = deque()
        self._networks: Networks | None = None

    def run(self, paths: Iterable[str | PathLike[str] | None]) -> Generator[ScanOutcome | None, None, None]:
        """Scan videos; close the generator to stop early.

        Args:
            paths: paths of the videos; the next is taken when a decoder is free. None if no video is waiting at the
                moment.

        Yields:
            One outcome per path, in the order of the videos. If ``endless``, outcomes in any order, and None several
            times a second while there is none.

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
                if not self._scans and not self._endless:
                    return
                if (done := self._done()) is not None:
                    self._scans.remove(done)
                    yield done.outcome
                    continue
                self._step()
                if self._endless:
                    yield None
        finally:
            for scan in self._scans:
                self._release(scan)

    def _begin(self, upcoming: Iterator[str | PathLike[str] | None]) -> None:
        """Start decoding the next videos while decoders are free."""
        while len(self._scans) < WINDOW and (decoder := self._decoders.take()) is not None:
            path = next(upcoming, None)
            if path is None:
                self._decoders.give_back(decoder)
                return
            self._scans.append(_Scan(Prefetcher(path, decoder, self._config, self._threads, self._changed)))

    def _done(self) -> _Scan | None:
        """Return the scan whose outcome is yielded next; None if no such outcome is known yet."""
        candidates = self._scans if self._endless else [self._scans[0]]
        return next((scan for scan in candidates if scan.outcome is not None), None)

    def _release(self, scan: _Scan) -> None:
        """Return the decoder of a video to the pool."""
        if not scan.released:
            scan.released = True
            scan.prefetcher.close()
            self._decoders.give_back(scan.prefetcher.decoder)

    def _step(self) -> None:
        """Wait for frames or the end of a video, and process them."""
        with self._profile.stage("waiting for frames"), self._changed:
            if not any(
                scan.prefetcher.next_frames or scan.drained or (scan.prefetcher.opened and self._networks is None)
                for scan in self._scans
            ):
                self._changed.wait(WAIT_S)
        if self._networks is None and any(scan.prefetcher.opened for scan in self._scans):
            self._networks = self._loaded()
        networks = self._networks
        if networks is not None:
            self._find_faces(networks)
        for scan in self._scans:
            if scan.drained:
                self._release(scan)
                if scan.prefetcher.error is not None:
                    self._fail(scan, scan.prefetcher.error)
        if networks is not None:
            self._score(networks.detector)
            for scan in self._scans:
                if scan.released and scan.outcome is None and not scan.waits_for_scores:
                    self._conclude(scan, networks)

    def _loaded(self) -> Networks:
        """Load the networks; the elapsed times of videos exclude it."""
        started = time.monotonic()
        with self._profile.stage("loading the networks"):
            networks = self._load()
        for scan in self._scans:
            scan.prefetcher.started += time.monotonic() - started
        return networks

    def _find_faces(self, networks: Networks) -> None:
        """Take batches of frames, detect their faces, and add them to the timelines of their videos."""
        batches = self._take()
        for scan, faces in self._detect(networks.face_detector, batches).items():
            frames, wanted = batches[scan], scan.prefetcher.frames_wanted
            scan.timeline = timeline = scan.timeline or Timeline(networks.detector, self._config.faces)
            with self._failing(scan), self._profile.stage("following and cropping faces", sum(map(len, faces))):
                timeline.add(frames, faces, wanted)
            if self._progress and scan.outcome is None:
                self._progress(scan.prefetcher.path, timeline.frames, wanted or None)

    def _take(self) -> dict[_Scan, list[Frame]]:
        """Take batches for one call of the face detector, at most one per video, in the order of the videos."""
        batches: dict[_Scan, list[Frame]] = {}
        room = self._config.batch_frames
        for scan in self._scans:
            if 0 < scan.prefetcher.next_frames <= room or (scan.prefetcher.next_frames and not batches):
                frames = scan.prefetcher.take()
                if scan.outcome is None:  # frames of a failed video are discarded
                    batches[scan] = frames
                    room -= len(frames)
        return batches

    def _detect(self, detector: FaceDetector, batches: dict[_Scan, list[Frame]]) -> dict[_Scan, list[list[Face]]]:
        """Detect the faces in each batch; a video fails and is left out if its frames can't be searched.

        Faces are followed through closely spaced samples, video by video. All other frames are searched in one call.
        """
        found: dict[_Scan, list[list[Face]]] = {}
        searched: dict[_Scan, list[Frame]] = {}
        for scan, frames in batches.items():
            follower = scan.follower = scan.follower or FaceFollower(detector)
            if follower.follows(frames):
                with self._failing(scan), self._profile.stage("detecting faces", len(frames)):
                    found[scan] = follower.find(frames)
            else:
                searched[scan] = frames

        def search(scans: Iterable[_Scan]) -> None:
            pixels = [frame.pixels for scan in scans for frame in searched[scan]]
            with self._profile.stage("detecting faces", len(pixels)):
                faces = iter(detector.detect(pixels, any_size=True))
            found.update({scan: [next(faces) for _ in searched[scan]] for scan in scans})

        try:
            search(searched)
        except Exception:  # noqa: BLE001 - each video is searched again alone, to find the one that fails
            for scan in searched:
                with self._failing(scan):
                    search([scan])
        return {scan: found[scan] for scan in batches if scan in found}

    def _score(self, detector: Detector) -> None:
        """Score the waiting crops if they fill a batch, or if a video that blocks others waits for the last ones."""
        scans = {scan.timeline: scan for scan in self._scans if scan.waits_for_scores and scan.timeline}
        ended = [scan for scan in scans.values() if scan.released]
        more = any(scan.prefetcher.next_frames for scan in self._scans)
        timelines = list(scans)
        if not is_full(timelines) and not (ended and (ended[0] is self._scans[0] or not more)):
            return
        with self._profile.stage("scoring faces", sum(len(timeline.waiting) for timeline in timelines)):
            errors = score_waiting(detector, timelines)
        for timeline, error in errors.items():
            self._fail(scans[timeline], error)

    @contextmanager
    def _failing(self, scan: _Scan) -> Iterator[None]:
        """Turn an error in the block into the outcome of a video."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self._fail(scan, error)

    def _fail(self, scan: _Scan, error: Exception) -> None:
        self._release(scan)
        prefetcher = scan.prefetcher
        scan.outcome = ScanOutcome(prefetcher.path, time.monotonic() - prefetcher.started, error)

    def _conclude(self, scan: _Scan, networks: Networks) -> None:
        """Make the result from the rows of a video's timeline."""
        prefetcher, info, report = scan.prefetcher, scan.prefetcher.info, scan.prefetcher.report
        assert info is not None, "decoded without an error"
        assert report is not None
        detector, policy = networks.detector, networks.policy
        own_thresholds = (policy.fake_above, policy.real_below) == (detector.fake_above, detector.real_below)
        timeline = scan.timeline or Timeline(detector, self._config.faces)
        with self._failing(scan), self._profile.stage("judging"):
            notes = timeline.conclude(networks.face_detector)
            decision = decide(timeline.rows, policy, detector.probability, picture=info.picture)
            elapsed_s = time.monotonic() - prefetcher.started
            result = VideoResult(
                path=prefetcher.path,
                status=Status.OK,
                verdict=decision.verdict,
                p_fake=decision.p_fake,
                reason=decision.reason,
                info=info,
                frames_sampled=timeline.frames,
                timeline=timeline.rows,
                tracks=decision.tracks,
                peak_time_s=decision.peak_time_s,
                elapsed_s=elapsed_s,
                model=detector.name,
                warnings=tuple(dict.fromkeys(info.warnings + report.warnings + notes)),
                sha256=prefetcher.sha256,
                scanned_at=utc_now(),
                fake_above=policy.fake_above,
                real_below=policy.real_below,
                error_rates=error_rates(detector.header) if own_thresholds else None,
                source=prefetcher.source,
            )
            scan.outcome = ScanOutcome(prefetcher.path, elapsed_s, result)
