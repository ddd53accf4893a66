"""Scanner: configuration, networks and decoders that are reused from video to video."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.decoders import Decoders
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.scheduler import FolderProgress, Networks, ScanOutcome, Scheduler
from torchfakes_cli.scan.verdict import Policy, settle_policy
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.limits import usable_cores

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector.detector import Detector

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


def _import_networks() -> None:
    """Import the slow modules in advance; errors are ignored here, because a later import raises them again."""
    # The import creates a million objects and no garbage; collection would take a twelfth of its time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with suppress(Exception):
            importlib.import_module("torchfakes_cli.detector.detector")
            importlib.import_module("torchfakes_cli.faces.mtcnn")
    finally:
        if collecting:
            gc.enable()


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
        jobs: number of videos decoded at once.
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
        self._model = model
        self._given = detector
        self.profile = Profile()
        self._cores = cores or usable_cores()
        self.jobs = jobs_for(self.config, self._cores)
        self._decoders = Decoders(self.config, self.jobs)
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
        self._get_networks().judging.result()

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

        def tell(_: str, done: int, wanted: int | None) -> None:
            if progress:
                progress(done, wanted)

        with closing(self._scheduler(None, tell, stop).run([path])) as outcomes:
            outcome = next(outcomes)
        if outcome.result is None:
            assert outcome.error is not None
            raise outcome.error
        return outcome.result

    def scan_each(
        self, paths: Iterable[str | PathLike[str]], progress: FolderProgress | None = None
    ) -> Generator[ScanOutcome, None, None]:
        """Scan videos, several at once; close the generator to stop early.

        Args:
            paths: paths of the videos.
            progress: called after each batch of frames with (path, frames done, frames wanted if known).

        Yields:
            One outcome per path, in the order of ``paths``, as soon as it and all earlier ones are known.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device, or the thresholds contradict each other.
        """
        return self._scheduler(self._threads, progress).run(paths)

    def scan_arriving(
        self,
        paths: Iterable[str | PathLike[str] | None],
        arrived: Callable[[], bool],
        stop: Callable[[], bool] | None = None,
    ) -> Generator[ScanOutcome, None, None]:
        """Scan videos that are added during the scan; close the generator to stop early.

        Args:
            paths: paths of the videos; None if no video is waiting at the moment.
            arrived: called several times a second; returns True if a video is waiting.
            stop: called several times a second; once it returns True, the scans end with a ``StoppedError``.

        Yields:
            One outcome per path, as soon as it is known.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device, or the thresholds contradict each other.
        """
        scheduler = Scheduler(
            self.config,
            self._decoders,
            self._get_networks,
            self.profile,
            self._threads,
            stop=stop,
            arrived=arrived,
            in_order=False,
        )
        return scheduler.run(paths)

    @contextmanager
    def spare_decoder(self) -> Iterator[IsolatedDecoder | None]:
        """Lend an idle decoding process for the block; None while all are busy."""
        decoder = self._decoders.take()
        try:
            yield decoder
        finally:
            if decoder is not None:
                self._decoders.give_back(decoder)

    @property
    def _threads(self) -> int:
        """Number of decoding threads per video if several are decoded at once."""
        return max(1, self._cores // self.jobs)

    def _scheduler(
        self, threads: int | None, progress: FolderProgress | None, stop: Callable[[], bool] | None = None
    ) -> Scheduler:
        return Scheduler(self.config, self._decoders, self._get_networks, self.profile, threads, progress, stop)

    @property
    def given(self) -> bool:
        """True if the caller passed a loaded detector."""
        return self._given is not None

    @cached_property
    def detector(self) -> Detector:
        """The detector, loaded on first access."""
        if self._given is not None:
            return self._given
        _import_networks()
        from torchfakes_cli.detector.detector import load_detector

        return load_detector(self._model, self.config.device)

    @cached_property
    def policy(self) -> Policy:
        """The verdict policy: the user's thresholds, or the detector's where the user set none."""
        return settle_policy(
            self.config.verdict, fake_above=self.detector.fake_above, real_below=self.detector.real_below
        )

    def _get_networks(self) -> Networks:
        """Return the networks; loading is repeated if it failed before."""
        known: Networks | None = self.__dict__.get("_networks")
        if known is not None and known.judging.done() and known.judging.exception() is not None:
            del self._networks
        return self._networks

    @cached_property
    def _networks(self) -> Networks:
        """The face detector, ready to use, and the detector, which loads in a background thread."""
        if self._given is None:
            _import_networks()
        from torchfakes_cli.detector.detector import choose_device
        from torchfakes_cli.faces.mtcnn import FaceDetector

        device = choose_device(self.config.device) if self._given is None else self._given.device
        beside = ThreadPoolExecutor(1, "load")
        judging = beside.submit(lambda: (self.detector, self.policy))
        beside.shutdown(wait=False)
        return Networks(FaceDetector(self.config.faces, device), judging)
