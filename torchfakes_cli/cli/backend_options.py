"""Options of the backend that scans a batch: several devices or a Ray cluster, and which options exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.options import JUDGING_PANEL, LIMITS_PANEL
from torchfakes_cli.errors import UsageError

if TYPE_CHECKING:
    from torchfakes_cli.scan.config import ScanConfig
    from torchfakes_cli.scan.worker_pool import WorkerPool

_MACHINES = "Many devices and machines"

DevicesOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=JUDGING_PANEL,
        help="Compute on this device: auto, cpu, cuda or cuda:N. For several videos also on several, with a process "
        "each: cuda:0,cuda:1, or all for every CUDA device.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        rich_help_panel=_MACHINES,
        help="Scan on this Ray cluster, whose machines see the videos under the same paths: its address, auto for the "
        "one of this machine, or local for a new one.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=_MACHINES,
        help="Start this many workers on the Ray cluster.",
        show_default="one a GPU or, without GPUs, one for four cores",
    ),
]
CopyLimitOption = Annotated[
    int,
    typer.Option(
        "--max-download-size",
        metavar="MIB",
        rich_help_panel=LIMITS_PANEL,
        help="Give up on a video from a web page, s3:// or another store if it is larger: each is copied for its scan.",
    ),
]


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """The backend that the user chose for a batch.

    Attributes:
        device: value of the option.
        ray: address of a cluster; None for this machine.
        workers: number of workers on the cluster; None for as many as fit.
    """

    device: str
    ray: str | None
    workers: int | None

    @property
    def device_here(self) -> str:
        """Device of this process, which computes for reports even if workers scan."""
        if self.ray is None and are_several(self.device):
            from torchfakes_cli.scan.worker_pool import named_devices

            return named_devices(self.device)[0]
        return self.device

    def check(self, *, single: bool, report: bool, profile: bool) -> None:
        """Check that the other options can be used with it.

        Raises:
            UsageError: an option can't be used with this backend.
        """
        if self.workers is not None and self.ray is None:
            raise UsageError("--workers are those of a Ray cluster", advice="Give its address with --ray.")
        if self.ray is None and not are_several(self.device):
            return
        option = "--ray" if self.ray is not None else "several devices"
        if single:
            raise UsageError(
                f"{option} would scan one video", advice="Give a folder or several videos, or leave it out."
            )
        if profile:
            raise UsageError(f"--profile tells of one process, and {option} takes several")
        if report and self.ray is not None:
            raise UsageError(
                "--report is not written on a Ray cluster",
                advice="Scan without it; then report on the videos that matter.",
            )

    def pool(self, config: ScanConfig, model: str | None) -> WorkerPool | None:
        """Make the worker pool of the batch; None if this process scans it.

        Raises:
            UsageError: a device or package is missing, or the cluster can't be used.
            ModelError: there is no such detector.
        """
        from torchfakes_cli.scan.ray_backend import on_ray
        from torchfakes_cli.scan.worker_pool import on_devices

        if self.ray is not None:
            return on_ray(self.ray, config, model=model, workers=self.workers)
        return on_devices(config, devices=self.device, model=model) if are_several(self.device) else None


def are_several(device: str) -> bool:
    """True if the value of a device option may name more than one device."""
    return device == "all" or "," in device
