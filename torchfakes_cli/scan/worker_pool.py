"""Worker pool: scan a batch in one process per device, or on the workers of a Ray cluster.

Each worker holds a bounded number of videos. A worker that dies or hangs is replaced; the videos it had are scanned
again at the end, each alone on a worker, and become an error after the third loss.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnContext, SpawnProcess
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import TorchfakesError, UsageError, WorkerLostError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.remote_files import is_url
from torchfakes_cli.scan.scanner import Scanner, jobs_for
from torchfakes_cli.scan.scheduler import failed
from torchfakes_cli.version import __version__
from torchfakes_cli.video.options import usable_cores

logger = logging.getLogger(__name__)

#: Number of lost workers after which their video is given up, because it may be the cause.
MOST_LOSSES = 3
#: Number of consecutive deaths of a worker before it is ready after which the batch is given up.
MOST_FALSE_STARTS = 3
#: Seconds within which the first worker must be ready. A cluster may have to start machines for it.
START_S = 900.0

_POLL_S = 0.2
# Seconds after which a worker without a result answers, to show that it is alive.
_ANSWER_S = 5.0
# Smallest time limit in seconds for an answer, because a batch of large frames takes long on a busy machine.
_LEAST_HANG_S = 30.0
_STOP_S = 5.0


def on_devices(
    config: ScanConfig | None = None, *, devices: str = "all", model: str | PathLike[str] | None = None
) -> WorkerPool:
    """Create a worker pool of processes on this machine, one per device.

    The processes import the main module; a script must therefore run its code below ``if __name__ == "__main__":``.

    Args:
        config: configuration of the scans; None for the defaults. Its device is ignored, and ``jobs`` applies to each
            process.
        devices: devices such as ``cuda:0,cuda:1`` or ``cpu,cpu``; ``all`` for every CUDA device.
        model: path or name of a checkpoint; None for the shipped one.

    Raises:
        UsageError: there is no such device.

    Example::

        for result in scan_folder("clips/", executor=on_devices(devices="cuda:0,cuda:1")):
            print(result.path, result.verdict or result.error)
    """
    return WorkerPool(ProcessBackend(named_devices(devices), config or ScanConfig(), model))


def named_devices(device: str) -> tuple[str, ...]:
    """Parse a list of devices such as ``cuda:0,cuda:1``, ``cpu,cpu`` or ``all``.

    Returns:
        Name of the device of each process.

    Raises:
        UsageError: a device doesn't exist, the devices are of different kinds, or a GPU is named twice.
    """
    from torchfakes_cli.detector.detector import choose_device

    if device == "all":
        import torch

        names = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
        if not names:
            raise UsageError("no CUDA device found", advice="Name devices: --device cpu,cpu starts two processes.")
        return names
    names = tuple(name.strip() for name in device.split(","))
    devices = [choose_device(name) for name in names]
    if len({device.type for device in devices}) > 1:
        raise UsageError(
            "CPUs and GPUs compute with different precision, so the rows of one table would differ",
            advice="Name devices of one kind.",
        )
    if devices[0].type == "cuda" and len(set(devices)) < len(devices):
        raise UsageError("each GPU takes one process", advice="Name every CUDA device once, as cuda:N.")
    return names


class Backend(ABC):
    """Workers of a pool, numbered from 0. Calls return futures, which raise if the worker is lost.

    Args:
        size: number of workers.
        kind: what the workers are, in a word or two.
        config: configuration of the scans.
        cores: number of cores of each worker.
    """

    def __init__(self, size: int, kind: str, config: ScanConfig, cores: int) -> None:
        self.size = size
        #: Largest number of videos that a worker holds: twice as many as it decodes at once, so that it never runs out.
        self.room = 2 * jobs_for(config, cores)
        self.place = f"{size} {kind}"
        #: Seconds without an answer after which a worker counts as hung.
        self.hang_s = max(_LEAST_HANG_S, 2 * config.timeout_s)

    @abstractmethod
    def start(self, worker: int) -> Future[str | TorchfakesError]:
        """Start a worker, after killing an earlier one with its number.

        Returns:
            Future of the device class and precision of the ready worker, or of an error that all workers would have.
        """

    @abstractmethod
    def exchange(self, worker: int, paths: list[str]) -> Future[list[VideoResult]]:
        """Hand videos to an idle worker; the future has results of any of its videos, or none after a few seconds."""

    @abstractmethod
    def close(self) -> None:
        """Kill all workers."""


@dataclass(slots=True)
class _Worker:
    """State of a worker: its pending call, and the videos it holds, as given by the user, by absolute path."""

    number: int
    call: Future[Any] | None = None
    deadline: float = 0.0
    ready: bool = False
    false_starts: int = 0
    videos: dict[str, str] = field(default_factory=dict)


class WorkerPool:
    """Pool that scans videos on the workers of a backend, with results in any order.

    Args:
        backend: starts the workers on demand; the pool closes it.

    Attributes:
        place: short description of where the workers run.
        computed_on: device class and precision of the first ready worker; empty before ``load``.
    """

    def __init__(self, backend: Backend) -> None:
        self.place = backend.place
        self.computed_on = ""
        self._backend = backend
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[str, str]] = deque()
        self._lost: deque[tuple[str, str]] = deque()
        self._losses: Counter[str] = Counter()

    @property
    def ready(self) -> int:
        """Number of workers that are ready for videos."""
        return sum(worker.ready for worker in self._workers)

    def load(self) -> None:
        """Start all workers and wait for the first, so that errors of detector or device are raised before any scan."""
        if not self._workers:
            self._workers = [_Worker(number) for number in range(self._backend.size)]
            for worker in self._workers:
                self._start(worker)
        deadline = time.monotonic() + START_S
        while not self.ready:
            list(self._collect())
            if not self.ready and time.monotonic() > deadline:
                raise WorkerLostError(
                    f"no worker was ready after {START_S / 60:.0f} minutes",
                    advice="Check that the machines have the requested cores or GPUs.",
                )

    def scan(self, paths: Iterable[str | PathLike[str]]) -> Generator[VideoResult, None, None]:
        """Scan files; close the generator to stop early, which ends the workers.

        Args:
            paths: paths of the files, each of another file.

        Yields:
            One result per file. A file that can't be scanned has status ``error``.

        Raises:
            TorchfakesError: scanning can't continue.
        """
        given = [fspath(path) for path in paths]
        # Absolute, because workers may have another working folder; links stay links.
        videos = {path if is_url(path) else os.path.abspath(path): path for path in given}  # noqa: PTH100
        self._waiting, self._lost, self._losses = deque(videos.items()), deque(), Counter()
        left = len(videos)
        if not left:
            return
        try:
            self.load()
            while left:
                self._hand_out(left)
                for result in self._collect():
                    left -= 1
                    yield result
        finally:
            if left:
                self.close()

    def close(self) -> None:
        """Kill all workers; another scan starts new ones."""
        self._workers.clear()
        self._backend.close()

    def _start(self, worker: _Worker) -> None:
        worker.ready = False
        worker.call = self._backend.start(worker.number)
        worker.deadline = time.monotonic() + START_S

    def _hand_out(self, left: int) -> None:
        """Hand out videos, to each worker up to its share of the remaining ones, so that all finish together."""
        share = min(self._backend.room, -(-left // self._backend.size))
        for worker in self._workers:
            if worker.call is not None:
                continue
            count = min(share - len(worker.videos), len(self._waiting))
            added = [self._waiting.popleft() for _ in range(count)]
            if self._lost and not self._waiting and not worker.videos and not added:
                added.append(self._lost.popleft())
            worker.videos.update(added)
            if worker.videos:
                worker.call = self._backend.exchange(worker.number, [path for path, _ in added])
                worker.deadline = time.monotonic() + self._backend.hang_s

    def _collect(self) -> Iterator[VideoResult]:
        """Wait for answers; yield their results, and ``error`` results of videos that are given up."""
        wait([worker.call for worker in self._workers if worker.call], _POLL_S, FIRST_COMPLETED)
        for worker in self._workers:
            if worker.call is not None and worker.call.done():
                yield from self._take_answer(worker, worker.call)
            elif worker.call is not None and time.monotonic() > worker.deadline:
                yield from self._replace(worker, "it gave no sign of life")

    def _take_answer(self, worker: _Worker, call: Future[Any]) -> Iterator[VideoResult]:
        worker.call = None
        if (error := call.exception()) is not None:
            yield from self._replace(worker, first_sentence(error))
        elif worker.ready:
            for result in call.result():
                yield replace(result, path=worker.videos.pop(result.path))
        elif isinstance(answer := call.result(), TorchfakesError):
            raise answer
        else:
            worker.ready, worker.false_starts = True, 0
            self.computed_on = self.computed_on or answer

    def _replace(self, worker: _Worker, reason: str) -> Iterator[VideoResult]:
        """Restart a lost worker, and put its videos aside to scan each alone; yield errors of those given up."""
        logger.debug("worker %d is lost: %s", worker.number, reason)
        if not worker.ready:
            worker.false_starts += 1
            if worker.false_starts == MOST_FALSE_STARTS:
                raise WorkerLostError(
                    f"a worker ended {MOST_FALSE_STARTS} times before it was ready: {reason}",
                    advice="Run it with --debug to see why.",
                )
        videos, worker.videos = worker.videos, {}
        self._start(worker)
        for path, given in videos.items():
            self._losses[path] += 1
            if self._losses[path] < MOST_LOSSES:
                self._lost.append((path, given))
                continue
            error = WorkerLostError(
                f"the worker that scanned it was lost {MOST_LOSSES} times: {reason}",
                advice="Memory may have run out; scan the file alone to check.",
            )
            yield failed(given, error)


class ProcessBackend(Backend):
    """Backend of processes on this machine, one per device, each in a ``ProcessPoolExecutor`` of its own."""

    def __init__(self, devices: Sequence[str], config: ScanConfig, model: str | PathLike[str] | None = None) -> None:
        self._cores = max(1, usable_cores() // len(devices))
        super().__init__(len(devices), "processes", config, self._cores)
        self._configs = [replace(config, device=device) for device in devices]
        self._model = None if model is None else fspath(model)
        self._executors: dict[int, tuple[ProcessPoolExecutor, _ProcessContext]] = {}

    def start(self, worker: int) -> Future[str | TorchfakesError]:
        """Start the process of a worker, and load its networks."""
        if worker in self._executors:
            self._kill(worker)
        context = _ProcessContext()  # spawns, because the state of torch and CUDA doesn't survive a fork
        executor = ProcessPoolExecutor(1, mp_context=context)
        self._executors[worker] = executor, context
        debug = logging.getLogger("torchfakes_cli").isEnabledFor(logging.DEBUG)
        try:
            with handler_kept(signal.SIGINT, signal.SIG_IGN):  # Ctrl-C goes to all processes
                return executor.submit(_start_worker, self._configs[worker], self._model, self._cores, debug)
        except OSError as error:
            raise TorchfakesError(f"a scanning process can't be started: {error.strerror or error}") from error

    def exchange(self, worker: int, paths: list[str]) -> Future[list[VideoResult]]:
        """Hand videos to a process."""
        try:
            return self._executors[worker][0].submit(_exchange, paths)
        except BrokenProcessPool as error:
            broken: Future[list[VideoResult]] = Future()
            broken.set_exception(error)
            return broken

    def close(self) -> None:
        """Kill all processes; their decoders end with them."""
        for worker in self._executors:
            self._kill(worker)
        for _, context in self._executors.values():
            if context.process is not None:
                context.process.join(_STOP_S)
        self._executors.clear()

    def _kill(self, worker: int) -> None:
        executor, context = self._executors[worker]
        if context.process is not None:
            context.process.kill()
        executor.shutdown(wait=False, cancel_futures=True)


class _ProcessContext(SpawnContext):
    """Spawn context of one executor that keeps its process, because an executor can't kill a hung one."""

    process: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.process = SpawnProcess(*args, **kwargs)
        return self.process


@contextmanager
def handler_kept(number: int, meanwhile: signal.Handlers | None = None) -> Iterator[None]:
    """Restore the handler of a signal after the block, which processes started in it inherit.

    Args:
        number: the signal.
        meanwhile: handler in the block; None for the same one.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set handlers
        yield
        return
    handler = signal.getsignal(number) or signal.SIG_DFL
    if meanwhile is not None:
        signal.signal(number, meanwhile)
    try:
        yield
    finally:
        signal.signal(number, handler)


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's message in one line, because those of libraries may be long."""
    text = " ".join(str(error).split())
    return (text.partition(". ")[0].rstrip(".") or type(error).__name__)[:300]


class WorkerScanner:
    """Scanner in a worker of any backend, fed with videos while it scans.

    Args:
        config: configuration of the scans.
        cores: number of cores, and of computing threads.
        version: version of the program that starts the worker.
        debug: log as with ``--debug``.
    """

    def __init__(self, config: ScanConfig, cores: int, version: str = __version__, *, debug: bool = False) -> None:
        self._config = config
        self._cores = cores
        self._version = version
        self._debug = debug
        self._added: deque[str] = deque()
        self._results: Iterator[VideoResult | None] = iter(())

    def load(self, model: str | bytes | None) -> str | TorchfakesError:
        """Load the networks.

        Args:
            model: path, name or content of a checkpoint; None for the shipped one.

        Returns:
            Device class and precision, or the error, because backends wrap raised ones.
        """
        logging.captureWarnings(not self._debug)
        logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
        if self._debug:
            logging.getLogger("torchfakes_cli").setLevel(logging.DEBUG)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see cli.main; nothing has imported torch yet
        if self._version != __version__:
            cause = f"this is torchfakes {self._version}, and {__version__} is installed on the Ray cluster"
            return UsageError(cause, advice="Install one version everywhere.")
        try:
            import cv2
            import torch

            torch.set_num_threads(self._cores)
            cv2.setNumThreads(self._cores)
            with tempfile.TemporaryDirectory(prefix="torchfakes-model-") as folder:
                path: str | Path | None = Path(folder, "detector.safetensors") if isinstance(model, bytes) else model
                if isinstance(model, bytes):
                    Path(folder, "detector.safetensors").write_bytes(model)
                scanner = Scanner(self._config, model=path, cores=self._cores)
                scanner.load()
        except TorchfakesError as error:
            return error
        except Exception as error:
            logger.debug("no scanner", exc_info=True)
            reason = f"{type(error).__name__}: {first_sentence(error)}"
            return TorchfakesError(f"a worker can't compute on {self._config.device}: {reason}")
        self._results = scanner.scan_arriving(self._next_paths())
        return scanner.computed_on

    def _next_paths(self) -> Iterator[str | None]:
        while True:
            yield self._added.popleft() if self._added else None

    def exchange(self, paths: Sequence[str | bytes]) -> list[VideoResult]:
        """Add videos and scan until one has a result; return none after a few seconds, to show life.

        Raises:
            Exception: the error that ended the scanner; this process can't scan any more.
        """
        self._added.extend(map(os.fsdecode, paths))
        deadline = time.monotonic() + _ANSWER_S
        for result in self._results:
            if result is not None:
                return [result]
            if time.monotonic() > deadline:
                return []
        raise WorkerLostError("the scanner has ended")


_scanner: WorkerScanner | None = None


def _start_worker(config: ScanConfig, model: str | None, cores: int, debug: bool) -> str | TorchfakesError:
    """Load the networks of this process; return device class and precision, or the error."""
    global _scanner
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scanner = WorkerScanner(config, cores, debug=debug)
    return _scanner.load(model)


def _exchange(paths: list[str]) -> list[VideoResult]:
    assert _scanner is not None, "started before"
    return _scanner.exchange(paths)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
