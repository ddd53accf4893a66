"""Ray backend of the worker pool: one actor per GPU or share of the cores."""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import TorchfakesError, UsageError
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.worker_pool import Backend, WorkerPool, WorkerScanner, first_sentence, handler_kept
from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import ModuleType

    import ray

    from torchfakes_cli.records import VideoResult

#: Address that starts a cluster on this machine for the duration of the scan.
LOCAL = "local"
#: Cores of a worker without a GPU. With more, decoding and the networks slow each other down.
CORES = 4


def on_ray(
    address: str = "auto",
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    workers: int | None = None,
) -> WorkerPool:
    """Create a worker pool on a Ray cluster whose machines can open the files under the same paths or URLs.

    Args:
        address: address of the cluster; ``auto`` for the one of this machine, ``local`` for a new one.
        config: configuration of the scans; None for the defaults. Device ``cuda`` assigns one GPU to each worker,
            ``cpu`` none, and ``auto`` one if the cluster has GPUs. ``jobs`` applies to each worker.
        model: path or name of a checkpoint, which is sent to the workers; None for the shipped one.
        workers: number of workers; None for one per GPU or, without GPUs, one per four cores.

    Raises:
        UsageError: ray is missing, there is no such cluster, or it has too few GPUs or cores.
    """
    return WorkerPool(RayBackend(address, config or ScanConfig(), model, workers))


class RayBackend(Backend):
    """Ray backend of a worker pool, connected to the cluster until it is closed; arguments as for ``on_ray``.

    A lost actor is replaced by a new one, not restarted by Ray: calls of a restarting actor fail, but those of a new
    one wait until it runs. Nor does Ray repeat calls: one of the videos may have killed the actor, and therefore the
    pool scans each of them again, alone on a worker.
    """

    def __init__(
        self,
        address: str,
        config: ScanConfig,
        model: str | PathLike[str] | None = None,
        workers: int | None = None,
    ) -> None:
        checkpoint = find_checkpoint(model).read_bytes()
        self._ray, self._ours = _connected(address)
        try:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            size, cores, gpus = divide(nodes, config.device, workers)
            self._checkpoint = self._ray.put(checkpoint)
        except BaseException:
            self._disconnect()
            raise
        super().__init__(size, "Ray workers", config, cores)
        self._arguments = replace(config, device="cuda" if gpus else "cpu"), cores, __version__
        self._actor = self._ray.remote(WorkerScanner).options(num_cpus=cores, num_gpus=gpus)
        self._actors: dict[int, ray.actor.ActorHandle] = {}

    def start(self, worker: int) -> Future[str | TorchfakesError]:
        """Create the actor of a worker, and load its networks."""
        if worker in self._actors:
            with suppress(Exception):  # it may be dead already
                self._ray.kill(self._actors[worker])
        self._actors[worker] = self._actor.remote(*self._arguments)
        return self._actors[worker].load.remote(self._checkpoint).future()  # type: ignore[no-any-return]

    def exchange(self, worker: int, paths: list[str]) -> Future[list[VideoResult]]:
        """Hand videos to an actor."""
        # As bytes, because file names need not be valid UTF-8.
        return self._actors[worker].exchange.remote(list(map(os.fsencode, paths))).future()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Kill all actors and disconnect from the cluster, which ends one that was started here."""
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor)
        self._actors.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._ours:
            self._ours = False
            self._ray.shutdown()


def _connected(address: str) -> tuple[ModuleType, bool]:
    """Return Ray, connected to a cluster, and True if the connection is new."""
    # Ray reads these variables on import.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports to Ray's developers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the config alone selects the device
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # it prints lost workers to stdout, where results go
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
    new = {"include_dashboard": False} if address == LOCAL else {}
    try:
        with handler_kept(signal.SIGTERM):  # Ray replaces it, and ours handles it like Ctrl-C
            library.init(address=address, log_to_driver=False, configure_logging=False, **new)
    except Exception as error:  # a timeout at the start is a plain Exception
        if address == LOCAL:
            cause, advice = "Ray can't be started on this machine", "Try again, or scan without --ray."
        else:
            cause = f"no Ray cluster at {address!r}"
            advice = "Start one with `ray start --head`, or give its address."
        raise UsageError(f"{cause}: {first_sentence(error)}", advice=advice) from error
    return library, True


def divide(nodes: Sequence[Mapping[str, float]], device: str, workers: int | None = None) -> tuple[int, int, int]:
    """Divide a cluster among equal workers, each on one machine; device and number of workers as for ``on_ray``.

    Args:
        nodes: numbers of cores (``CPU``) and GPUs (``GPU``) of each machine.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: number of workers; None for as many as fit.

    Returns:
        Number of workers, and numbers of cores and of GPUs of each.

    Raises:
        UsageError: the cluster has too few GPUs or cores.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} names a device of one machine", advice="With --ray choose auto, cpu or cuda."
        )
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    with_gpus = [(cores, gpus) for cores, gpus in machines if gpus and device != "cpu"]
    if device == "cuda" and not with_gpus:
        raise UsageError("the Ray cluster has no GPU", advice="Leave --device out to use its cores.")
    if with_gpus:
        available = sum(gpus for _, gpus in with_gpus)
        _check_fit(workers or 1, available, "GPUs")
        share = min(cores // gpus for cores, gpus in with_gpus)
        if not share:
            raise UsageError("a machine of the Ray cluster has more GPUs than cores", advice="Try --device cpu.")
        return workers or available, share, 1
    _check_fit(workers or 1, sum(cores for cores, _ in machines), "cores")

    def fitting(share: int) -> int:
        return sum(cores // share for cores, _ in machines)

    most = max(cores for cores, _ in machines)
    if workers is None:
        share = min(CORES, most)
        return fitting(share), share, 0
    return workers, next(share for share in range(most, 0, -1) if fitting(share) >= workers), 0


def _check_fit(workers: int, available: int, kind: str) -> None:
    if workers > available:
        raise UsageError(
            f"{workers} workers need as many {kind}, and the Ray cluster has {available}",
            advice="Ask for fewer --workers.",
        )
