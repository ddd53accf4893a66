"""Training in several processes that torchrun started: one a GPU, or on the CPU for a test.

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

#: The first process validates alone while the others wait for it: longer than that takes on any validation set.
PATIENCE = timedelta(hours=12)
#: Within an update they answer one another by then, or never: a machine that lost its power says no goodbye.
ANSWER = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is.

    Attributes:
        rank: from 0; the first one validates, writes and reports.
        count: of all machines.
        answering: the processes as a group that times out after ``ANSWER``; None where there is but one.
    """

    rank: int = 0
    count: int = 1
    answering: distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process reports for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def total(self, figures: Tensor) -> Tensor:
        """The sum of the processes' figures, in every process."""
        if self.count > 1:
            distributed.all_reduce(figures)
        return figures

    def share(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network as one whose gradients are the mean over the processes; itself where there is but one."""
        if self.count == 1:
            return network
        cards = [device] if device.type == "cuda" else None
        # The figures of batch norm are averaged before they are used instead: see ``average_figures``.
        return DistributedDataParallel(network, device_ids=cards, broadcast_buffers=False, process_group=self.answering)

    def average_figures(self, network: nn.Module) -> None:
        """Give every process the mean of all processes' batch-norm figures."""
        if self.count == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.count


def processes_here() -> int:
    """How many processes of a training torchrun started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_device(device: torch.device) -> torch.device:
    """The card of this process where torchrun started one for each, else the device unchanged."""
    number = os.environ.get("LOCAL_RANK")
    return torch.device("cuda", int(number)) if str(device) == "cuda" and number is not None else device


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, and leave them at the end of the block; alone where it started none.

    Args:
        device: where this process computes.

    Raises:
        UsageError: this build of torch has no distributed package, or a machine has fewer cards than processes.
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
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        answering = distributed.new_group(timeout=ANSWER)
        assert isinstance(answering, distributed.ProcessGroup)  # something else only where this process isn't in it
        yield Processes(distributed.get_rank(), count, answering)
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        advice = "Its own message gives the reason; then start all of them again with --resume."
        raise TorchfakesError("another process of this training has ended or doesn't answer", advice=advice) from error
    finally:
        distributed.destroy_process_group()


def is_lost_process(error: RuntimeError) -> bool:
    """Whether an error means that another process could not be reached; Gloo's have no class of their own."""
    return distributed.is_available() and (isinstance(error, distributed.DistError) or "gloo/" in str(error))
