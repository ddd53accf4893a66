"""Scanner: configuration, networks and decoders that are reused from video to video."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.scheduler import FolderProgress, Scheduler
from torchfakes_cli.scan.verdict import Policy, settle_policy
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.faces.mtcnn import FaceDetector

#: Called with (frames done, total frames wanted if known).
Progress = Callable[[int, int | None], None]

#: Largest default number of videos decoded at once. Two keep the networks busy between videos, more are needed to feed
#: a GPU. Each uses a process of at least 100 MiB.
MOST_JOBS = 8


def jobs_for(config: ScanConfig, cores: int) -> int:
    """Return the number of videos decoded at once on a machine with ``cores`` cores."""
    return config.jobs or max(2, min(MOST_JOBS, cores // 2))


def scan_video(
    path: str | PathLike[str],
    config: ScanConfig | None = None,
    *,
    detector: Detector | None = None,
    progress: Progress | None = None,
) -> VideoResult:
    """Scan one video.

    Args:
        path: path of the video.
        config: sampling, face detection, verdict policy and limits; None for the defaults.
        detector: detector from ``load_detector``; None loads the shipped one. Load it once to scan several files.
        progress: called after each batch of frames with (frames done, frames wanted if known).

    Returns:
        Result with status ``ok``. A video without a face has the verdict ``inconclusive`` and the reason ``no_face``.

    Raises:
        MediaError: the file can't be read, or too little of it can be decoded.
        ModelError: the detector can't be loaded, or its scores aren't finite.
        UsageError: the configuration doesn't fit the file, the detector or this machine.

    Example::

        result = scan_video("clip.mp4")
        print(result.verdict, result.p_fake, result.reason)
    """
    with Scanner(config, detector=detector) as scanner:
        return scanner.scan(path, progress)


class Scanner:
    """Video scanner with one configuration; its networks are loaded when the first file needs them.

    It is a context manager, which ends its decoding processes on exit. The first of them starts while the networks are
    loaded.

    Args:
        config: configuration of the scans; None for the defaults.
        model: path or name of a checkpoint; None for the shipped one.
        detector: loaded detector; ``model``, if given, is its checkpoint.
        cores: number of cores to use; None for all that this process may use.

    Attributes:
        config: configuration of the scans.
        profile: seconds spent in each stage so far.
        decoders: pool of decoding processes; its size limits the videos decoded at once.

    Raises:
        TorchfakesError: a decoding process can't be started.
    """

    def __init__(
        self,
        config: ScanConfig | None = None,
        *,
        model: str | PathLike[str] | None = None,
        detector: Detector | None = None,
        cores: int | None = None,
    ) -> None:
        self.config = config or ScanConfig()
        self.profile = Profile()
        self._model = model
        self._given = detector is not None
        if detector is not None:
            self.detector = detector
        cores = cores or usable_cores()
        jobs = jobs_for(self.config, cores)
        self._threads = max(1, cores // jobs)
        self.decoders = DecoderPool(self.config, jobs)
        self.decoders.start()

    def __enter__(self) -> Scanner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoding processes; scanning another file starts new ones."""
        self.decoders.close()

    def load(self) -> None:
        """Load the networks now, so that errors of detector, device and thresholds are raised before the first file."""
        self.networks  # noqa: B018 - loaded on first access

    def scan(
        self,
        path: str | PathLike[str],
        progress: Progress | None = None,
        *,
        stop: Callable[[], bool] | None = None,
    ) -> VideoResult:
        """Scan one video, with the results and errors of ``scan_video``.

        Args:
            path: path of the video.
            progress: called after each batch of frames with (frames done, frames wanted if known).
            stop: called several times a second; once it returns True, the scan ends with a ``StoppedError``.
        """
        if "networks" not in self.__dict__ and Path(path).is_file():
            # Import while the decoder opens the file; the error of an invalid file doesn't wait for this.
            Thread(target=_import_networks, name="import").start()

        def report(_: str, done: int, wanted: int | None) -> None:
            if progress:
                progress(done, wanted)

        with closing(Scheduler(self, None, report, stop).run([path])) as scans:
            scan = next(scans)
        assert scan is not None, "a single path has one scan"
        if isinstance(scan.outcome, Exception):
            raise scan.outcome
        return scan.result

    def scan_each(
        self, paths: Iterable[str | PathLike[str]], progress: FolderProgress | None = None
    ) -> Generator[VideoResult, None, None]:
        """Scan videos, several at once; close the generator to stop early.

        Args:
            paths: paths of the videos.
            progress: called after each batch of frames with (path, frames done, frames wanted if known).

        Yields:
            One result per path, in the order of ``paths``, as soon as it and all earlier ones are known. A file that
            can't be scanned has status ``error``; the errors of ``load`` are raised.
        """
        with closing(Scheduler(self, self._threads, progress).run(paths)) as scans:
            yield from (scan.result for scan in scans if scan)

    def scan_arriving(self, paths: Iterable[str | None]) -> Generator[VideoResult | None, None, None]:
        """Scan videos that are added during the scan; close the generator to end it.

        Args:
            paths: paths of the videos; None if no video is waiting at the moment.

        Yields:
            One result per path, as soon as it is known, and None several times a second while there is none; the errors
            of ``load`` are raised.
        """
        with closing(Scheduler(self, self._threads, endless=True).run(paths)) as scans:
            yield from (scan.result if scan else None for scan in scans)

    @contextmanager
    def lent_decoder(self) -> Iterator[IsolatedDecoder]:
        """Lend a decoder for the block; it is one more than the videos in progress use."""
        decoder = self.decoders.take(extra=1)
        assert decoder is not None, "lent once at a time"
        try:
            yield decoder
        finally:
            self.decoders.give_back(decoder)

    @cached_property
    def detector(self) -> Detector:
        """The detector, loaded on first access."""
        from torchfakes_cli.detector.detector import load_detector

        return load_detector(self._model, self.config.device)

    @property
    def checkpoint(self) -> Path | None:
        """Path of the detector's checkpoint; None if it is unknown, because a loaded detector was given alone."""
        return None if self._given and self._model is None else find_checkpoint(self._model)

    @cached_property
    def policy(self) -> Policy:
        """The verdict policy: the user's thresholds, or the detector's where the user set none."""
        return settle_policy(
            self.config.verdict, fake_above=self.detector.fake_above, real_below=self.detector.real_below
        )

    @property
    def computed_on(self) -> str:
        """Device class and precision, which affect the last digits of scores."""
        return f"{self.detector.device.type} {self.detector.precision}"

    @cached_property
    def networks(self) -> Networks:
        """The face detector, the detector and the policy, loaded on first access."""
        from torchfakes_cli.faces.mtcnn import FaceDetector

        detector, policy = self.detector, self.policy
        return Networks(FaceDetector(self.config.faces, detector.device), detector, policy)


class DecoderPool:
    """Pool of decoding processes, each started when first needed and reused from video to video.

    Args:
        config: limits on time and memory.
        size: largest number of processes at a time.
    """

    def __init__(self, config: ScanConfig, size: int) -> None:
        self._config = config
        self._size = size
        self._idle: list[IsolatedDecoder] = []
        self._used: list[IsolatedDecoder] = []

    def start(self) -> None:
        """Start the first process, without waiting until it is ready."""
        decoder = self.take()
        if decoder is not None:
            self.give_back(decoder)
            decoder.start()

    def take(self, *, extra: int = 0) -> IsolatedDecoder | None:
        """Return a decoder, to be given back; None while ``size`` and the ``extra`` number of them are in use."""
        if len(self._used) >= self._size + extra:
            return None
        self._used.append(self._idle.pop() if self._idle else new_decoder(self._config))
        return self._used[-1]

    def give_back(self, decoder: IsolatedDecoder) -> None:
        """Return a decoder to the pool."""
        self._used.remove(decoder)
        if not decoder.abandoned:
            self._idle.append(decoder)

    def close(self) -> None:
        """End all processes; decoders taken afterwards start new ones."""
        for decoder in [*self._idle, *self._used]:
            decoder.close()


def new_decoder(config: ScanConfig) -> IsolatedDecoder:
    """Make a decoder with the limits of a scan; its process starts when it opens a file."""
    return IsolatedDecoder(timeout_s=config.timeout_s, memory_mb=config.memory_mb, hwaccel=config.hwaccel)


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


def _import_networks() -> None:
    """Import the slow modules in advance; errors are ignored here, because a later import raises them again."""
    with suppress(Exception):
        import_module("torchfakes_cli.detector.detector")
        import_module("torchfakes_cli.faces.mtcnn")
