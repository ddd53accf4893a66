"""A scanner that is given videos one by one, from outside its thread, and scans several of them at once."""

from __future__ import annotations

import logging
import os
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from os import PathLike
from threading import Condition, Thread

from torchfakes_cli.config import ScanConfig
from torchfakes_cli.errors import TorchfakesError, WorkerLostError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.batch import result_of
from torchfakes_cli.scan.pipeline import Scanner

logger = logging.getLogger(__name__)


def get_ready(config: ScanConfig, model: str | PathLike[str] | None, cores: int) -> Arrivals | TorchfakesError:
    """Makes a worker of this process.

    Args:
        config: of the scans.
        model: path or name of a checkpoint; None for the one that ships.
        cores: that it may count on, and as many threads as it has.

    Returns:
        What takes videos, with its networks loaded; or why there is none, to be told elsewhere.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see cli.main; nothing has imported torch yet
    try:
        import cv2
        import torch

        torch.set_num_threads(cores)
        cv2.setNumThreads(cores)
        scanner = Scanner(config, model=model, cores=cores)
        scanner.load()
    except TorchfakesError as error:
        return error
    except Exception as error:
        logger.debug("no scanner", exc_info=True)
        reason = " ".join(str(error).split()) or "no message"
        return TorchfakesError(f"a worker can't compute on {config.device}: {type(error).__name__}: {reason}")
    return Arrivals(scanner)


class Arrivals:
    """Takes videos as they come; this is what a worker does, wherever it runs.

    Args:
        scanner: whose networks are loaded; nobody else uses it.
    """

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._news = Condition()
        self._queue: deque[str] = deque()
        self._waiting: defaultdict[str, deque[Future[VideoResult]]] = defaultdict(deque)
        self._ended = False
        self._thread = Thread(target=self._run, name="scan", daemon=True)
        self._thread.start()

    def submit(self, path: str) -> Future[VideoResult]:
        """Takes a video; what is wrong with it is told in its result.

        Returns:
            Its result to come. Where the scanner itself fails, it raises that error.
        """
        future: Future[VideoResult] = Future()
        with self._news:
            if self._ended:
                future.set_exception(WorkerLostError("the scanner has ended"))
                return future
            self._waiting[path].append(future)
            self._queue.append(path)
            self._news.notify_all()
        return future

    def _run(self) -> None:
        error: BaseException = WorkerLostError("the scanner has ended")
        try:
            for outcome in self._scanner.scan_arriving(self._paths(), lambda: bool(self._queue)):
                with self._news:
                    futures = self._waiting[outcome.path]
                    future = futures.popleft()
                    if not futures:
                        del self._waiting[outcome.path]
                future.set_result(result_of(outcome))
        except Exception as unexpected:
            logger.debug("the scanner has ended", exc_info=True)
            error = unexpected
        with self._news:
            self._ended = True
            left = [future for futures in self._waiting.values() for future in futures]
        for future in left:
            future.set_exception(error)

    def _paths(self) -> Iterator[str | None]:
        """Waits for a video only while none is scanned."""
        while True:
            with self._news:
                while not self._waiting:
                    self._news.wait()
                path = self._queue.popleft() if self._queue else None
            yield path
