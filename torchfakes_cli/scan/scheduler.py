"""Scan several videos at once: many decoders, one face detector, one detector.

Each video is decoded in a process and a thread of its own, up to a few batches ahead. Meanwhile this thread passes
frames of several videos to one call of the face detector, and crops of several videos to one call of the detector.
Frames are kept for one batch and crops until they are scored, so that memory doesn't grow with the length of a video;
only the rows of its timeline do.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from os import PathLike, fspath
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING

from torchfakes_cli.detector.calibration import error_rates
from torchfakes_cli.errors import StoppedError, TooLongError, TorchfakesError
from torchfakes_cli.faces.tracking import FaceFollower
from torchfakes_cli.files import sha256_of
from torchfakes_cli.records import Face, Frame, Status, VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.face_scoring import Timeline, is_full, score_waiting
from torchfakes_cli.scan.remote_files import Copy, is_url, local_copy
from torchfakes_cli.scan.verdict import decide

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.mtcnn import FaceDetector
    from torchfakes_cli.records import DecodeReport, Source, VideoInfo
    from torchfakes_cli.scan.scanner import Networks, Scanner
    from torchfakes_cli.video.isolation.client import IsolatedDecoder

logger = logging.getLogger(__name__)

#: Called with (path of the video, frames done, total frames wanted if known).
FolderProgress = Callable[[str, int, int | None], None]

#: Largest number of videos that are in progress, or done and waiting for an earlier one: while a long video is scanned,
#: this many shorter ones after it can be.
WINDOW = 64

# Longest wait in seconds of a blocked thread; without a limit Windows would not deliver Ctrl-C.
_WAIT_S = 0.1
_BATCHES_QUEUED = 2
# Batches in memory: the one being filled, those in the queue, the one being processed, and frames decoded ahead.
_BATCHES_ALIVE = _BATCHES_QUEUED + 3


def failed(path: str | PathLike[str], error: TorchfakesError, elapsed_s: float = 0.0) -> VideoResult:
    """Return the ``error`` result of a file that couldn't be scanned; its message doesn't repeat the path."""
    message = f"{error.cause}. {error.advice}" if error.advice else error.cause
    return VideoResult(path=fspath(path), status=Status.ERROR, elapsed_s=elapsed_s, error=message, scanned_at=_now())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class VideoScan:
    """Scan of one video, whose frames a background thread decodes into a queue.

    Args:
        path: path or URL of the video, which is copied to a local file first if it is a URL.
        decoder: decoder for this scan's exclusive use until it is released.
        config: sampling, batch sizes and limits.
        threads: number of decoding threads; None for one per core, or one fewer if frames are small.
        changed: condition notified after each batch and at the end; all scans share it, so that one wait serves all.

    Attributes:
        path: path or URL of the video.
        decoder: decoder in use; None once it is released.
        started: start time on the monotonic clock, moved by the time that loading the networks takes.
        opened, ended: True once the file is open, and once decoding has ended; batches may still be in the queue.
        error: error that ended decoding early, or None.
        frames_wanted: number of frames that will be sampled from the whole video; 0 if not known.
        info, report: properties of the video, and of its decoding, known once that has ended without an error.
        sha256, source: checksum of the file, and web page of a downloaded video, known at the same time.
        follower, timeline: detect its faces, and hold its rows; None before the first frames.
        outcome: result of the scan, or the error that prevented it; None while it runs.
        elapsed_s: seconds from the start to the outcome. Other videos may have been scanned concurrently.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        decoder: IsolatedDecoder,
        config: ScanConfig,
        threads: int | None,
        changed: Condition,
    ) -> None:
        self.path = fspath(path)
        self.decoder: IsolatedDecoder | None = decoder
        self.started = time.monotonic()
        self.opened = False
        self.ended = False
        self.error: Exception | None = None
        self.frames_wanted = 0
        self.info: VideoInfo | None = None
        self.report: DecodeReport | None = None
        self.sha256 = ""
        self.source: Source | None = None
        self.follower: FaceFollower | None = None
        self.timeline: Timeline | None = None
        self.outcome: VideoResult | Exception | None = None
        self.elapsed_s = 0.0
        self._config = config
        self._changed = changed
        self._queue: deque[list[Frame]] = deque()
        self._stopped = False
        self._thread = Thread(target=self._run, args=(decoder, threads), name="decode", daemon=True)
        self._thread.start()

    @property
    def next_frames(self) -> int:
        """Number of frames in the next batch; 0 if the queue is empty."""
        return len(self._queue[0]) if self._queue else 0

    @property
    def drained(self) -> bool:
        """True if decoding has ended and all frames were taken, but the decoder is not released yet."""
        return self.ended and not self.next_frames and self.decoder is not None

    @property
    def waits_for_scores(self) -> bool:
        """True if it has crops to be scored."""
        return self.outcome is None and self.timeline is not None and bool(self.timeline.waiting)

    @property
    def result(self) -> VideoResult:
        """Result of the finished scan; after an error, a result with status ``error``."""
        error = self.outcome
        if isinstance(error, VideoResult):
            return error
        logger.debug("%s", self.path, exc_info=error)
        if not isinstance(error, TorchfakesError):
            reason = " ".join(str(error).split()) or "no message"
            error = TorchfakesError(f"unexpected {type(error).__name__}: {reason}")
        return failed(self.path, error, self.elapsed_s)

    def take(self) -> list[Frame]:
        """Remove the next batch from the queue and return it."""
        with self._changed:
            batch = self._queue.popleft()
            self._changed.notify_all()
        return batch

    def end(self, outcome: VideoResult | Exception) -> None:
        """Set the outcome."""
        self.outcome, self.elapsed_s = outcome, time.monotonic() - self.started

    def release(self) -> IsolatedDecoder | None:
        """Stop decoding and return the decoder, unusable if it was still decoding; None if it is released already."""
        decoder, self.decoder = self.decoder, None
        if decoder and not self.ended:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            decoder.abandon()
        self._thread.join()
        return decoder

    def _run(self, decoder: IsolatedDecoder, threads: int | None) -> None:
        try:
            self._decode(decoder, threads)
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self.error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _decode(self, decoder: IsolatedDecoder, threads: int | None) -> None:
        config, limit_s = self._config, self._config.max_length_s
        file = (
            local_copy(self.path, config.copy_mb << 20, lambda: self._stopped)
            if is_url(self.path)
            else nullcontext(Copy(self.path))
        )
        with file as copy, decoder.open(copy.path, threads=threads) as reader:
            length_s = reader.info.duration_s
            if limit_s is not None and length_s is not None and length_s > limit_s:
                cause = f"the video is {length_s:.1f} s long, and {limit_s:g} s are allowed"
                raise TooLongError(cause, path=self.path, advice="Cut it to the part that matters.")
            frames = reader.frames(config.sampling)
            with self._changed:
                self.opened = True
                self._changed.notify_all()
            for batch in _batches(frames, config.batch_frames, config.batch_pixels // _BATCHES_ALIVE):
                self.frames_wanted = reader.report.frames_wanted
                if not self._put(batch):
                    return
            self.source = copy.source
            with suppress(OSError):  # a file that was removed meanwhile still has its result
                self.sha256 = sha256_of(Path(copy.path))
            self.info, self.report = reader.info, reader.report

    def _put(self, batch: list[Frame]) -> bool:
        """Add a batch once the queue has space; return False if the thread has to end."""
        with self._changed:
            while len(self._queue) >= _BATCHES_QUEUED and not self._stopped:
                self._changed.wait(_WAIT_S)
            if not self._stopped:
                self._queue.append(batch)
                self._changed.notify_all()
            return not self._stopped


def _batches(frames: Iterable[Frame], max_frames: int, max_pixels: int) -> Iterator[list[Frame]]:
    """Group frames into batches of at least one frame and at most the given numbers of frames and pixels."""
    batch: list[Frame] = []
    room = max_pixels
    for frame in frames:
        width, height = frame.size
        if batch and (len(batch) == max_frames or width * height > room):
            yield batch
            batch, room = [], max_pixels
        batch.append(frame)
        room -= width * height
    if batch:
        yield batch


class Scheduler:
    """Scans videos with the decoders and networks of a scanner.

    Args:
        scanner: the scanner; its networks are loaded when the first video is open.
        threads: number of decoding threads per video; None for one per core, or one fewer if frames are small.
        progress: called after each batch of frames with (path, frames done, frames wanted if known).
        stop: called several times a second or before each batch of frames; the scans end once it returns True.
        endless: more videos may arrive at any time; outcomes come as soon as they are known.
    """

    def __init__(
        self,
        scanner: Scanner,
        threads: int | None = None,
        progress: FolderProgress | None = None,
        stop: Callable[[], bool] | None = None,
        *,
        endless: bool = False,
    ) -> None:
        self._scanner = scanner
        self._config = scanner.config
        self._profile = scanner.profile
        self._threads = threads
        self._progress = progress
        self._stop = stop or (lambda: False)
        self._endless = endless
        self._changed = Condition()
        self._scans: deque[VideoScan] = deque()
        self._networks: Networks | None = None

    def run(self, paths: Iterable[str | PathLike[str] | None]) -> Generator[VideoScan | None, None, None]:
        """Scan videos; close the generator to stop early.

        Args:
            paths: paths of the videos; the next is taken when a decoder is free. None if no video is waiting.

        Yields:
            One finished scan per path, in the order of the videos. If ``endless``, finished scans in any order, and
            None several times a second while there is none.

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
                candidates = self._scans if self._endless else [self._scans[0]]
                if done := next((scan for scan in candidates if scan.outcome is not None), None):
                    self._scans.remove(done)
                    yield done
                    continue
                self._step()
                if self._endless:
                    yield None
        finally:
            for scan in self._scans:
                self._release(scan)

    def _begin(self, upcoming: Iterator[str | PathLike[str] | None]) -> None:
        """Start decoding the next videos while decoders are free."""
        while len(self._scans) < WINDOW and (decoder := self._scanner.decoders.take()) is not None:
            path = next(upcoming, None)
            if path is None:
                self._scanner.decoders.give_back(decoder)
                return
            self._scans.append(VideoScan(path, decoder, self._config, self._threads, self._changed))

    def _release(self, scan: VideoScan) -> None:
        """Return the decoder of a video to the pool."""
        if decoder := scan.release():
            self._scanner.decoders.give_back(decoder)

    def _step(self) -> None:
        """Wait for frames or the end of a video, and process them."""
        with self._profile.stage("waiting for frames"), self._changed:
            if not any(
                scan.next_frames or scan.drained or (scan.opened and self._networks is None) for scan in self._scans
            ):
                self._changed.wait(_WAIT_S)
        if self._networks is None and any(scan.opened for scan in self._scans):
            self._networks = self._loaded()
        networks = self._networks
        if networks is not None:
            self._find_faces(networks)
        for scan in self._scans:
            if scan.drained:
                self._release(scan)
                if scan.error is not None:
                    scan.end(scan.error)
        if networks is not None:
            self._score(networks.detector)
            for scan in self._scans:
                if scan.decoder is None and scan.outcome is None and not scan.waits_for_scores:
                    self._conclude(scan, networks)

    def _loaded(self) -> Networks:
        """Load the networks; the elapsed times of videos exclude it."""
        started = time.monotonic()
        with self._profile.stage("loading the networks"):
            networks = self._scanner.networks
        for scan in self._scans:
            scan.started += time.monotonic() - started
        return networks

    def _find_faces(self, networks: Networks) -> None:
        """Take batches of frames, detect their faces, and add them to the timelines of their videos."""
        batches = self._take()
        for scan, faces in self._detect(networks.face_detector, batches).items():
            scan.timeline = timeline = scan.timeline or Timeline(networks.detector, self._config.faces)
            with self._failing(scan), self._profile.stage("following and cropping faces", sum(map(len, faces))):
                timeline.add(batches[scan], faces, scan.frames_wanted)
            if self._progress and scan.outcome is None:
                self._progress(scan.path, timeline.frames, scan.frames_wanted or None)

    def _take(self) -> dict[VideoScan, list[Frame]]:
        """Take batches for one call of the face detector, at most one per video, in the order of the videos."""
        batches: dict[VideoScan, list[Frame]] = {}
        room = self._config.batch_frames
        for scan in self._scans:
            if 0 < scan.next_frames <= room or (scan.next_frames and not batches):
                frames = scan.take()
                if scan.outcome is None:  # frames of a failed video are discarded
                    batches[scan] = frames
                    room -= len(frames)
        return batches

    def _detect(
        self, detector: FaceDetector, batches: dict[VideoScan, list[Frame]]
    ) -> dict[VideoScan, list[list[Face]]]:
        """Detect the faces in each batch; a video fails and is left out if its frames can't be searched.

        Faces are followed through closely spaced samples, video by video. All other frames are searched in one call.
        """
        found: dict[VideoScan, list[list[Face]]] = {}
        searched: dict[VideoScan, list[Frame]] = {}
        for scan, frames in batches.items():
            follower = scan.follower = scan.follower or FaceFollower(detector)
            if follower.follows(frames):
                with self._failing(scan), self._profile.stage("detecting faces", len(frames)):
                    found[scan] = follower.find(frames)
            else:
                searched[scan] = frames

        def search(scans: Iterable[VideoScan]) -> None:
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
        timelines = list(scans)
        ended = [scan for scan in scans.values() if scan.decoder is None]
        more = any(scan.next_frames for scan in self._scans)
        if not is_full(timelines) and not (ended and (ended[0] is self._scans[0] or not more)):
            return
        with self._profile.stage("scoring faces", sum(len(timeline.waiting) for timeline in timelines)):
            errors = score_waiting(detector, timelines)
        for timeline, error in errors.items():
            self._fail(scans[timeline], error)

    @contextmanager
    def _failing(self, scan: VideoScan) -> Iterator[None]:
        """Turn an error in the block into the outcome of a video."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self._fail(scan, error)

    def _fail(self, scan: VideoScan, error: Exception) -> None:
        self._release(scan)
        scan.end(error)

    def _conclude(self, scan: VideoScan, networks: Networks) -> None:
        """Make the result from the rows of a video's timeline."""
        info, report = scan.info, scan.report
        assert info is not None, "decoded without an error"
        assert report is not None
        detector, policy = networks.detector, networks.policy
        own_thresholds = (policy.fake_above, policy.real_below) == (detector.fake_above, detector.real_below)
        timeline = scan.timeline or Timeline(detector, self._config.faces)
        with self._failing(scan), self._profile.stage("judging"):
            notes = timeline.conclude(networks.face_detector)
            decision = decide(timeline.rows, policy, detector.probability, picture=info.picture)
            result = VideoResult(
                path=scan.path,
                status=Status.OK,
                verdict=decision.verdict,
                p_fake=decision.p_fake,
                reason=decision.reason,
                info=info,
                frames_sampled=timeline.frames,
                timeline=timeline.rows,
                tracks=decision.tracks,
                peak_time_s=decision.peak_time_s,
                elapsed_s=time.monotonic() - scan.started,
                model=detector.name,
                warnings=tuple(dict.fromkeys(info.warnings + report.warnings + notes)),
                sha256=scan.sha256,
                scanned_at=_now(),
                fake_above=policy.fake_above,
                real_below=policy.real_below,
                error_rates=error_rates(detector.header) if own_thresholds else None,
                source=scan.source,
            )
            scan.end(result)
