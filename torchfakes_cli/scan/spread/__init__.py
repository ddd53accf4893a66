"""Where a batch is scanned: in this process, in one process a device, or on a Ray cluster.

All of them are an ``Executor``: videos go in, results come out, and whoever asked writes them down.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from torchfakes_cli.config import ScanConfig

if TYPE_CHECKING:
    from torchfakes_cli.scan.spread.dispatch import Dispatch


def on_devices(
    config: ScanConfig | None = None, *, devices: str = "all", model: str | PathLike[str] | None = None
) -> Dispatch:
    """Scans in processes of this machine, one a device.

    They import the program that starts them: a script keeps what it does below ``if __name__ == "__main__":``.

    Args:
        config: None for the defaults; its device doesn't count, and its jobs are those of each process.
        devices: such as ``cuda:0,cuda:1`` or ``cpu,cpu``; ``all`` for every CUDA device.
        model: path or name of a checkpoint; None for the one that ships.

    Raises:
        UsageError: there is no such device.

    Example::

        for result in scan_folder("clips/", executor=on_devices(devices="cuda:0,cuda:1")):
            print(result.path, result.verdict or result.error)
    """
    from torchfakes_cli.scan.spread.devices import named_devices
    from torchfakes_cli.scan.spread.dispatch import Dispatch
    from torchfakes_cli.scan.spread.processes import Processes

    return Dispatch(Processes(named_devices(devices), config or ScanConfig(), model))


def on_ray(
    address: str = "auto",
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    workers: int | None = None,
) -> Dispatch:
    """Scans on a Ray cluster, whose machines see the files under the same paths, or by URL.

    Args:
        address: of the cluster; ``auto`` for the one of this machine, ``local`` for a new one.
        config: None for the defaults; ``cuda`` as its device takes a GPU for each worker, ``cpu`` none, ``auto`` one
            where there are any. Its jobs are those of each worker.
        model: path or name of a checkpoint, which is sent to the workers; None for the one that ships.
        workers: how many; None for one a GPU or, without GPUs, one for four cores.

    Raises:
        UsageError: ray is missing, there is no such cluster, or it has less than was asked for.
    """
    from torchfakes_cli.scan.spread.cluster import RayCluster
    from torchfakes_cli.scan.spread.dispatch import Dispatch

    return Dispatch(RayCluster(address, config or ScanConfig(), model, workers))
