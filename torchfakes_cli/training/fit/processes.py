"""Training in several processes that torchrun started, one per GPU (or on the CPU, for tests).

::

    torchrun --standalone --nproc-per-node 4 -m torchfakes_cli train crops
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from torchfakes_cli.errors import TorchfakesError, UsageError

#: Timeout while the first process validates and the others wait.
VALIDATION_TIMEOUT = timedelta(hours=12)
#: Timeout within an update: a machine that lost its power closes no connection.
UPDATE_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that share a training."""

    rank: int = 0  # number of this one, from 0; the first one validates, writes and reports
    count: int = 1  # number of processes on all machines
    # The processes as a group that times out after ``UPDATE_TIMEOUT``; None for a single process
    group: distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """True for the process that reports for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def total(self, figures: Tensor) -> Tensor:
        """Return the sum of the processes' figures, in every process."""
        if self.count > 1:
            distributed.all_reduce(figures)
        return figures

    def share(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return a network whose gradients are averaged over the processes; the network itself for a single one."""
        if self.count == 1:
            return network
        devices = [device] if device.type == "cuda" else None
        # Buffers are averaged before they are used instead: see ``average_buffers``.
        return DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False, process_group=self.group)

    def average_buffers(self, network: nn.Module) -> None:
        """Average the running statistics of batch norms over the processes."""
        if self.count > 1:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    distributed.all_reduce(buffer)
                    buffer /= self.count


def processes_here() -> int:
    """Number of processes that torchrun started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process if torchrun started one for each, else the device unchanged."""
    number = os.environ.get("LOCAL_RANK")
    return torch.device("cuda", int(number)) if str(device) == "cuda" and number is not None else device


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, for the time of the block.

    Raises:
        UsageError: this build of PyTorch has no distributed package, or a machine has fewer GPUs than processes.
        TorchfakesError: another process ended before its time, or doesn't answer.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if not distributed.is_available():
        raise UsageError("this build of PyTorch can't train in several processes", advice="Start without torchrun.")
    if device.type == "cuda":
        if device.index >= torch.cuda.device_count():
            raise UsageError(f"there is no {device} for this process", advice="Start a process for each GPU at most.")
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=VALIDATION_TIMEOUT)
    try:
        group = distributed.new_group(timeout=UPDATE_TIMEOUT)
        assert isinstance(group, distributed.ProcessGroup)  # it is something else only for a process outside of it
        yield Processes(distributed.get_rank(), count, group)
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        advice = "Its own message gives the reason; then start all of them again with --resume."
        raise TorchfakesError("another process of this training has ended or doesn't answer", advice=advice) from error
    finally:
        distributed.destroy_process_group()


def is_lost_process(error: RuntimeError) -> bool:
    """True if another process could not be reached; errors of Gloo have no class of their own."""
    return distributed.is_available() and (isinstance(error, distributed.DistError) or "gloo/" in str(error))
