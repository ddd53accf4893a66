"""Scanner: configuration, networks and decoders that are reused from video to video."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from importlib import import_module
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.prefetch import DecoderPool
from torchfakes_cli.scan.scheduler import FolderProgress, Networks, Profile, Scheduler, result_of
from torchfakes_cli.scan.verdict import Policy, settle_policy
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.video.isolation.client import IsolatedDecoder

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
        detector: loaded detector to use instead of ``model``.
        cores: number of cores to use; None for all that this process may use.

    Attributes:
        config: configuration of the scans.
        given: True if the caller passed a loaded detector.
        profile: seconds spent in each stage so far.

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
        self.given = detector is not None
        self.profile = Profile()
        self._model = model
        if detector is not None:
            self.detector = detector
        cores = cores or usable_cores()
        jobs = jobs_for(self.config, cores)
        self._threads = max(1, cores // jobs)
        self._decoders = DecoderPool(self.config, jobs)
        self._decoders.start()

    def __enter__(self) -> Scanner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoding processes; scanning another file starts new ones."""
        self._decoders.close()

    def load(self) -> None:
        """Load the networks now, so that errors are raised before the first file.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device, or the thresholds contradict each other.
        """
        self._networks  # noqa: B018 - loaded on first access

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
        if "_networks" not in self.__dict__ and Path(path).is_file():
            # Import while the decoder opens the file; the error of an invalid file doesn't wait for this.
            Thread(target=_import_networks, name="import").start()

        def report(_: str, done: int, wanted: int | None) -> None:
            if progress:
                progress(done, wanted)

        with closing(self._scheduler(None, report, stop).run([path])) as outcomes:
            outcome = next(outcomes)
        assert outcome is not None, "a single path has one outcome"
        if isinstance(outcome.result, Exception):
            raise outcome.result
        return outcome.result

    def scan_each(
        self, paths: Iterable[str | PathLike[str]], progress: FolderProgress | None = None
    ) -> Generator[VideoResult, None, None]:
        """Scan videos, several at once; close the generator to stop early.

        Args:
            paths: paths of the videos.
            progress: called after each batch of frames with (path, frames done, frames wanted if known).

        Yields:
            One result per path, in the order of ``paths``, as soon as it and all earlier ones are known. A file that
            can't be scanned has status ``error``.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device, or the thresholds contradict each other.
        """
        with closing(self._scheduler(self._threads, progress).run(paths)) as outcomes:
            yield from (result_of(outcome) for outcome in outcomes if outcome)

    def scan_arriving(self, paths: Iterable[str | None]) -> Generator[VideoResult | None, None, None]:
        """Scan videos that are added during the scan; close the generator to end it.

        Args:
            paths: paths of the videos; None if no video is waiting at the moment.

        Yields:
            One result per path, as soon as it is known, and None several times a second while there is none.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device, or the thresholds contradict each other.
        """
        with closing(self._scheduler(self._threads, endless=True).run(paths)) as outcomes:
            yield from (result_of(outcome) if outcome else None for outcome in outcomes)

    def _scheduler(
        self,
        threads: int | None,
        progress: FolderProgress | None = None,
        stop: Callable[[], bool] | None = None,
        *,
        endless: bool = False,
    ) -> Scheduler:
        return Scheduler(
            self.config,
            self._decoders,
            lambda: self._networks,
            self.profile,
            threads,
            progress,
            stop,
            endless=endless,
        )

    @contextmanager
    def lent_decoder(self) -> Iterator[IsolatedDecoder]:
        """Lend a decoder for the block; it is one more than the videos in progress use."""
        decoder = self._decoders.take(extra=1)
        assert decoder is not None, "lent once at a time"
        try:
            yield decoder
        finally:
            self._decoders.give_back(decoder)

    @cached_property
    def detector(self) -> Detector:
        """The detector, loaded on first access."""
        from torchfakes_cli.detector.detector import load_detector

        return load_detector(self._model, self.config.device)

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
    def _networks(self) -> Networks:
        from torchfakes_cli.faces.mtcnn import FaceDetector

        detector, policy = self.detector, self.policy
        return Networks(FaceDetector(self.config.faces, detector.device), detector, policy)


def _import_networks() -> None:
    """Import the slow modules in advance; errors are ignored here, because a later import raises them again."""
    with suppress(Exception):
        import_module("torchfakes_cli.detector.detector")
        import_module("torchfakes_cli.faces.mtcnn")
