"""Workers as actors of a Ray cluster, one a GPU or share of the cores."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from torchfakes_cli import __version__
from torchfakes_cli.config import ScanConfig
from torchfakes_cli.detector.registry import find_checkpoint, shipped_checkpoint
from torchfakes_cli.errors import TorchfakesError, UsageError
from torchfakes_cli.scan.remote import is_url
from torchfakes_cli.scan.spool import Spool
from torchfakes_cli.scan.spread.arrivals import Arrivals, get_ready
from torchfakes_cli.scan.spread.fleet import Done, Lost, News, Ready, Unfit
from torchfakes_cli.scan.spread.processes import room_for, set_up_log
from torchfakes_cli.scan.spread.shares import Node, divide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import ray

    from torchfakes_cli.records import VideoResult

#: Starts a cluster of this machine, for the length of the scan.
LOCAL = "local"

_SPOOL = "torchfakes-model-"


class RayWorker:
    """The actor: its networks are loaded once, and it scans several videos at once.

    Args:
        version: of the program that gives it work.
        config: of the scans.
        checkpoint: content of the file, so that every machine has the same one.
        cores: that it may count on.
    """

    def __init__(self, version: str, config: ScanConfig, checkpoint: bytes, cores: int) -> None:
        self._version = version
        self._config = config
        self._checkpoint = checkpoint
        self._cores = cores
        self._arrivals: Arrivals | None = None

    def load(self) -> TorchfakesError | None:
        """Loads the networks; what is wrong with them is returned, as Ray would wrap it if it were raised."""
        if self._version != __version__:
            return UsageError(
                f"this is torchfakes {self._version}, and {__version__} is installed on the Ray cluster",
                advice="Install one version everywhere.",
            )
        set_up_log()
        with Spool(_SPOOL) as spool:
            model = spool.folder / "detector.safetensors"
            model.write_bytes(self._checkpoint)
            self._checkpoint = b""
            arrivals = get_ready(self._config, model, self._cores)
        if isinstance(arrivals, TorchfakesError):
            return arrivals
        self._arrivals = arrivals
        return None

    def scan(self, path: bytes) -> VideoResult:
        """Scans a file of its machine; several threads call it at once."""
        assert self._arrivals is not None, "load was called"
        return self._arrivals.submit(os.fsdecode(path)).result()


class RayCluster:
    """A ``Fleet`` on a Ray cluster, to which it stays connected until it is closed.

    Args:
        address: of a running cluster; ``auto`` for the one of this machine, ``local`` for a new one.
        config: of the scans, with the device ``auto``, ``cpu`` or ``cuda``; ``jobs`` is that of each worker.
        model: path or name of a checkpoint; None for the one that ships.
        workers: how many; None for one a GPU or, without GPUs, one for four cores.

    Raises:
        UsageError: ray is missing, there is no such cluster, or it has less than was asked for.
    """

    def __init__(
        self,
        address: str,
        config: ScanConfig,
        model: str | PathLike[str] | None = None,
        workers: int | None = None,
    ) -> None:
        checkpoint = (shipped_checkpoint() if model is None else find_checkpoint(model)).read_bytes()
        self._ray, self._ours = _connected(address)
        try:
            lent = [each["Resources"] for each in self._ray.nodes() if each["Alive"]]
            nodes = [Node(resources.get("CPU", 0), resources.get("GPU", 0)) for resources in lent]
            shares = divide(nodes, config.device, workers)
            self._checkpoint = self._ray.put(checkpoint)
        except BaseException:
            self._disconnect()
            raise
        self.size = shares.workers
        self.place = f"{self.size} Ray workers"
        self.room = room_for(config, shares.cores)
        self._config = replace(config, device="cuda" if shares.cards else "cpu")
        self._cores = shares.cores
        self._actor = self._ray.remote(RayWorker).options(
            num_cpus=shares.cores,
            num_gpus=shares.cards,
            max_concurrency=self.room,
            max_restarts=0,  # who is lost is replaced by whoever gives it work
            max_task_retries=0,
        )
        self._workers: dict[int, ray.actor.ActorHandle] = {}
        #: What is waited for: the worker, and the number of the task; None while it gets ready.
        self._awaited: dict[ray.ObjectRef, tuple[int, int | None]] = {}

    def start(self, worker: int) -> None:
        """See ``Fleet``."""
        actor = self._actor.remote(__version__, self._config, self._checkpoint, self._cores)
        self._workers[worker] = actor
        self._awaited[actor.load.remote()] = worker, None

    def give(self, worker: int, task: int, path: str) -> None:
        """See ``Fleet``."""
        # Bytes, for a name may hold some that are no UTF-8. Other machines have another working folder.
        known = path if is_url(path) else os.path.abspath(path)  # noqa: PTH100 - links stay links
        self._awaited[self._workers[worker].scan.remote(os.fsencode(known))] = worker, task

    def wait(self, timeout_s: float) -> list[News]:
        """See ``Fleet``."""
        done, rest = self._ray.wait(list(self._awaited), timeout=timeout_s)
        if done and rest:
            done += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [news for reference in done if (news := self._news(reference)) is not None]

    def close(self) -> None:
        """See ``Fleet``."""
        for actor in self._workers.values():
            with suppress(Exception):
                self._ray.kill(actor)
        self._workers.clear()
        self._awaited.clear()
        self._disconnect()

    def _news(self, reference: ray.ObjectRef) -> News | None:
        """What a reference tells; None for one of a worker whose end is told already."""
        if reference not in self._awaited:
            return None
        worker, task = self._awaited.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._forget(worker)
            return Lost(worker, _in_a_line(error))
        if task is not None:
            return Done(worker, task, answer)
        return Ready(worker) if answer is None else Unfit(worker, answer)

    def _forget(self, worker: int) -> None:
        self._awaited = {reference: of for reference, of in self._awaited.items() if of[0] != worker}
        with suppress(Exception):  # it may be one that can't be reached, and would hold its share
            self._ray.kill(self._workers.pop(worker))

    def _disconnect(self) -> None:
        if self._ours:
            self._ours = False
            self._ray.shutdown()


def _connected(address: str) -> tuple[ModuleType, bool]:
    """Ray, and whether the connection is a new one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before it is imported: it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a worker without a card is told so by its config
    try:
        library = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        advice = "Install it: pip install 'torchfakes[ray]'."
        raise UsageError("a scan on a Ray cluster needs ray", advice=advice) from error
    if library.is_initialized():
        return library, False
    level = logging.DEBUG if logging.getLogger("torchfakes_cli").isEnabledFor(logging.DEBUG) else logging.CRITICAL
    logging.getLogger("ray").setLevel(level)
    # Of a lost worker it prints paragraphs to stdout, where results go.
    setattr(importlib.import_module("ray._private.worker"), "_worker_logs_enabled", False)  # noqa: B010
    new = {"include_dashboard": False} if address == LOCAL else {}
    try:
        with _interrupts_kept():
            library.init(address=address, log_to_driver=False, configure_logging=False, **new)
    except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
        raise UsageError(
            f"no Ray cluster at {address!r}: {_in_a_line(error)}",
            advice="Start one with `ray start --head`, or give its address.",
        ) from error
    return library, True


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, where it is to end this program as Ctrl-C does."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _in_a_line(error: Exception) -> str:
    """The first sentence of an error; Ray's go on for paragraphs."""
    text = " ".join(str(error).split())
    return (text.partition(". ")[0].rstrip(".") or type(error).__name__)[:300]
