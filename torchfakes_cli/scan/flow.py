"""Several videos at once, from files to verdicts: decoders feed one face detector and one classifier.

Each video is decoded in a process and a thread of its own (``Feed``). What they bring is looked at here: frames of
several videos in one call of the face detector, crops of several videos in one batch of the classifier, which works in
a thread of its own.
Frames live for one batch and crops until the network has seen them, so memory doesn't grow with a video's length; only
the rows of its timeline do. Results come in the order of the videos, whichever is done first, unless asked otherwise.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from threading import Condition
from typing import TYPE_CHECKING

from torchfakes_cli.config import ScanConfig
from torchfakes_cli.errors import StoppedError, TorchfakesError
from torchfakes_cli.faces import FaceFollower
from torchfakes_cli.records import Face, Frame, Status, VideoResult
from torchfakes_cli.scan.decoders import Decoders
from torchfakes_cli.scan.feed import LOOK_UP_S, Batch, Feed
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.threads import computing_threads
from torchfakes_cli.scan.timeline import Scoring, Timeline
from torchfakes_cli.scan.verdict import Policy, decide

if TYPE_CHECKING:
    from torchfakes_cli.detector import Detector
    from torchfakes_cli.faces.cascade import FaceDetector

logger = logging.getLogger(__name__)

#: Told how far a scan is: path of the video, frames done, and frames wanted in all where that is known.
FolderProgress = Callable[[str, int, int | None], None]

#: So many videos may be under way or done while the first of them isn't: short ones needn't wait for a long one.
WINDOW = 64


@dataclass(frozen=True, slots=True)
class Networks:
    """What looks at frames and faces, and how scores become verdicts.

    Attributes:
        face_detector: ready.
        judging: the detector, which may still be loading while faces are found, and the policy.
    """

    face_detector: FaceDetector
    judging: Future[tuple[Detector, Policy]]

    @property
    def detector(self) -> Detector:
        """The detector, once it is loaded; raises why it can't be."""
        return self.judging.result()[0]

    @property
    def policy(self) -> Policy:
        """The policy, once the detector is loaded; raises why there is none."""
        return self.judging.result()[1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one video.

    Attributes:
        path: of the file.
        elapsed_s: from its opening to its result, without the loading of networks. Other videos may have shared the
            machine in that time.
        result: of its scan; None where there is none …
        error: … for this reason.
    """

    path: str
    elapsed_s: float
    result: VideoResult | None = None
    error: Exception | None = None


def result_of(outcome: Outcome) -> VideoResult:
    """The result of a scan; a scan that failed gives a result with status ``error``."""
    if outcome.result is not None:
        return outcome.result
    error = outcome.error
    logger.debug("%s", outcome.path, exc_info=error)
    if not isinstance(error, TorchfakesError):
        reason = " ".join(str(error).split()) or "no message"
        error = TorchfakesError(f"unexpected {type(error).__name__}: {reason}")
    return failed(outcome.path, error, outcome.elapsed_s)


def failed(path: str | PathLike[str], error: TorchfakesError, elapsed_s: float = 0.0) -> VideoResult:
    """The result of a file that couldn't be scanned; the path isn't repeated in its message."""
    message = f"{error.cause}. {error.advice}" if error.advice else error.cause
    return VideoResult(path=fspath(path), status=Status.ERROR, elapsed_s=elapsed_s, error=message)


class _Scan:
    """One video under way."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.follower: FaceFollower | None = None
        self.timeline: Timeline | None = None
        self.outcome: Outcome | None = None
        self.decoded = False

    @property
    def unscored(self) -> int:
        """Faces that wait for their scores."""
        return self.timeline.unscored if self.timeline else 0


class Flow:
    """Scans videos with one set of networks.

    Args:
        config: of the scans.
        decoders: as many videos as there are of them are decoded at once.
        networks: called once, when the first video is open.
        profile: told where the time goes.
        threads: that may decode one video; None for one a core, or one fewer where pictures are small.
        progress: called after each batch of frames.
        stop: asked ten times a second or before each batch of frames; once it says True, the scans end.
        arrived: asked as often, where videos are given while others are scanned: whether there is one to begin with.
        in_order: outcomes come in the order of the videos; else as they are known.
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
        self._news = Condition()
        self._scans: deque[_Scan] = deque()
        self._networks: Networks | None = None
        self._scoring: Scoring | None = None

    def run(self, paths: Iterable[str | PathLike[str] | None]) -> Generator[Outcome, None, None]:
        """Scans videos; close the generator to stop early.

        Args:
            paths: of the files; the next one is asked for when a decoder is free. None stands for none at the moment.

        Yields:
            One outcome a path.

        Raises:
            TorchfakesError: the networks can't be loaded.
            StoppedError: ``stop`` said so.
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
        """The scan whose outcome is to be told next; None where it isn't known yet."""
        candidates = [self._scans[0]] if self._in_order else self._scans
        return next((scan for scan in candidates if scan.outcome is not None), None)

    def _begin(self, upcoming: Iterator[str | PathLike[str] | None]) -> None:
        """Gives the next videos to decoders that are free."""
        while len(self._scans) < WINDOW and (decoder := self._decoders.take()) is not None:
            path = next(upcoming, None)
            if path is None:
                self._decoders.give_back(decoder)
                return
            feed = Feed(
                path,
                decoder,
                self._config.sampling,
                threads=self._threads,
                max_frames=self._config.batch_frames,
                max_pixels=self._config.batch_pixels,
                max_length_s=self._config.max_length_s,
                copy_bytes=self._config.copy_mb << 20,
                news=self._news,
            )
            self._scans.append(_Scan(feed))

    def _release(self, scan: _Scan) -> None:
        """The video needs its decoder no more."""
        if not scan.decoded:
            scan.decoded = True
            scan.feed.close()
            self._decoders.give_back(scan.feed.decoder)

    def _step(self) -> None:
        """Waits for something to do, and does it."""
        scores_alone = self._scoring and self._scoring.busy and not any(scan.feed.busy for scan in self._scans)
        with self._profile.stage("waiting for scores" if scores_alone else "waiting for frames"):
            self._wait()
        if self._networks is None and any(scan.feed.opened for scan in self._scans):
            with self._loading():
                self._networks = self._load()
        group = self._take()
        if group:
            self._look(group)
        for scan in self._scans:
            if scan.feed.ended and not scan.feed.next_frames and not scan.decoded:
                self._release(scan)
                if scan.feed.error is not None:
                    self._fail(scan, scan.feed.error)
        if self._scoring is not None:
            self._score(self._scoring)
        if self._networks is not None:
            for scan in self._scans:
                if scan.decoded and scan.outcome is None and not scan.unscored:
                    self._conclude(scan, self._networks)

    def _wait(self) -> None:
        """Until a video is open for which networks are needed, or there are frames or scores, or the end of some."""
        with self._news:
            while not any(
                scan.feed.next_frames
                or (scan.feed.ended and not scan.decoded)
                or (scan.feed.opened and not self._networks)
                for scan in self._scans
            ) and not (
                (self._scoring and (self._scoring.done or self._due(self._scoring)))
                or (self._decoders.some_free and self._arrived())
                or self._stop()
            ):
                self._news.wait(LOOK_UP_S)

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """The block loads networks, or waits for them, which isn't counted as any video's time."""
        started = time.monotonic()
        with self._profile.stage("loading the networks"):
            yield
        for scan in self._scans:
            scan.feed.started += time.monotonic() - started

    def _scores(self, networks: Networks) -> Scoring:
        """What scores crops, once the detector is loaded."""
        if self._scoring is None:
            with self._loading():
                self._scoring = Scoring(networks.detector, self._profile, self._tell)
        return self._scoring

    def _take(self) -> list[tuple[_Scan, Batch]]:
        """Batches that wait, the first videos' first, as many as go into one call of the face detector."""
        group: list[tuple[_Scan, Batch]] = []
        room = self._config.batch_frames
        for scan in self._scans:
            if 0 < scan.feed.next_frames <= room or (scan.feed.next_frames and not group):
                batch = scan.feed.take()
                room -= len(batch.frames)
                if scan.outcome is None:  # else it has failed since
                    group.append((scan, batch))
        return group

    def _look(self, group: list[tuple[_Scan, Batch]]) -> None:
        """Finds the faces in some batches, and adds them to the timelines of their videos."""
        assert self._networks is not None, "loaded when the first video was open"
        for (scan, batch), found in zip(group, self._found(self._networks.face_detector, group), strict=True):
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
                self._progress(scan.feed.path, scan.timeline.frames, batch.wanted or None)

    def _found(self, detector: FaceDetector, group: list[tuple[_Scan, Batch]]) -> list[list[list[Face]] | None]:
        """The faces in each batch; None for one that failed, and so for its video.

        Faces are followed through samples that lie close together, video by video. All others are searched together.
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
        except Exception:  # noqa: BLE001 - told of the video that fails alone, too

            def search(frames: Sequence[Frame]) -> list[list[Face]]:
                return detector.detect([frame.pixels for frame in frames], any_size=True)

            found.update({number: self._guarded(*group[number], search) for number in searched})
        return [found[number] for number in range(len(group))]

    def _computing(self) -> AbstractContextManager[None]:
        """The face detector shares the cores with what is scored, decoded and loaded beside it."""
        loading = self._networks is None or not self._networks.judging.done()
        scoring = self._scoring is not None and self._scoring.busy
        return computing_threads(shared=loading or scoring or any(scan.feed.busy for scan in self._scans))

    def _guarded(
        self, scan: _Scan, batch: Batch, find: Callable[[Sequence[Frame]], list[list[Face]]]
    ) -> list[list[Face]] | None:
        """The faces in one batch; None where that fails, and so does its video."""
        try:
            with self._profile.stage("detecting faces", len(batch.frames)), self._computing():
                return find(batch.frames)
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self._fail(scan, error)
            return None

    def _due(self, scoring: Scoring) -> bool:
        """Whether what waits is to be scored next: a full batch, or the rest of a video that others wait for."""
        if scoring.busy or scoring.done:
            return False  # one batch at a time, and its scores are entered first
        rests = [scan for scan in self._scans if scan.decoded and scan.timeline and scoring.holds(scan.timeline)]
        more = any(scan.feed.next_frames for scan in self._scans)
        return scoring.full(shared=self._searching) or (bool(rests) and (rests[0] is self._scans[0] or not more))

    @property
    def _searching(self) -> bool:
        """Whether frames are there or on their way, so that faces are looked for in the meantime."""
        return any(scan.feed.next_frames or scan.feed.busy for scan in self._scans)

    def _score(self, scoring: Scoring) -> None:
        """Enters scores that are there, and begins with the next batch if it is due."""
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
        scan.outcome = Outcome(scan.feed.path, time.monotonic() - scan.feed.started, error=error)

    def _conclude(self, scan: _Scan, networks: Networks) -> None:
        timeline = scan.timeline or Timeline(self._scores(networks), self._config.faces)
        try:
            with self._profile.stage("judging"):
                result = _result(scan.feed, timeline, networks)
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self._fail(scan, error)
            return
        scan.outcome = Outcome(scan.feed.path, result.elapsed_s, result)


def _result(feed: Feed, timeline: Timeline, networks: Networks) -> VideoResult:
    """What the rows of a video's timeline say."""
    assert feed.info is not None
    assert feed.report is not None
    notes = timeline.conclude(networks.face_detector)
    picture = feed.info.picture
    decision = decide(timeline.rows, networks.policy, networks.detector.probability, picture=picture)
    return VideoResult(
        path=fspath(feed.path),
        status=Status.OK,
        verdict=decision.verdict,
        p_fake=decision.p_fake,
        reason=decision.reason,
        info=feed.info,
        frames_sampled=timeline.frames,
        timeline=timeline.rows,
        tracks=decision.tracks,
        peak_time_s=decision.peak_time_s,
        elapsed_s=time.monotonic() - feed.started,
        model=networks.detector.name,
        warnings=tuple(dict.fromkeys(feed.info.warnings + feed.report.warnings + notes)),
    )
