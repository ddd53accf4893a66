"""Loading of training crops: in worker processes while a card learns, or in threads between the CPU's updates.

Where the CPU learns, it has no core to spare: reading during an update held up PyTorch's threads, which wait for one
another, by several times what it took itself. All cores then read before each update.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.datasets import Drawn, PairDataset, PlainDataset, collate
from torchfakes_cli.training.fit.processes import Processes, processes_here

#: More reading processes than this only help where there are more cards than one.
MAX_WORKERS = 8


class TrainingCrops:
    """All crops of a training, update by update.

    A draw follows from its number, and an update's numbers from the update's: a resumed training sees the same.

    Args:
        table: training rows of a manifest.
        folder: the manifest's.
        config: of the training, with the input size settled.
        processes: that share a batch.
        device: where the network learns.
        sizes: sides of the pictures in pixels, each for an equal share of the training; empty for the input size.

    Attributes:
        steps_per_epoch: updates an epoch.

    Raises:
        DataError: a class is missing.
        UsageError: the batch can't be shared among the processes.
    """

    def __init__(
        self, table: pd.DataFrame, folder: Path, config: TrainConfig, processes: Processes, device: torch.device,
        sizes: Sequence[int] = (),
    ) -> None:  # fmt: skip
        if config.batch % (2 * processes.count):
            cause = f"a batch of {config.batch} can't be shared among {processes.count} processes in pairs"
            raise UsageError(cause, advice=f"Choose a --batch-size that {2 * processes.count} divides.")
        per_epoch = config.samples_per_epoch or max(config.batch, int(table["balanced"].astype(bool).sum()))
        self.steps_per_epoch = max(1, per_epoch // config.batch)
        crops = self.steps_per_epoch * config.epochs * config.batch
        dataset: PairDataset | PlainDataset
        if config.sampling == "plain":
            dataset, per_batch = PlainDataset(table, folder, config, crops, sizes), config.batch
        else:
            dataset, per_batch = PairDataset(table, folder, config, crops // 2, sizes), config.batch // 2
        self._sampler = _Numbers(per_batch, processes)
        workers = config.workers if config.workers is not None else usual_workers(device)
        self._loader: DataLoader[Any] = DataLoader(
            dataset if workers else _Threaded(dataset),
            batch_size=per_batch // processes.count,
            sampler=self._sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_init_worker,
            pin_memory=device.type == "cuda",
            # One of its own: the loader's draw from the common one would depend on how often training was resumed.
            generator=torch.Generator(),
        )

    def epoch(self, epoch: int, step: int) -> Iterator[Drawn]:
        """The batches from an update (from 0) to the end of an epoch (from 1)."""
        self._sampler.steps = range(step, epoch * self.steps_per_epoch)
        return iter(self._loader)


class _Numbers(Sampler[int]):
    """Numbers of the draws of this process; each process takes its part of every batch."""

    def __init__(self, per_batch: int, processes: Processes) -> None:
        self.steps = range(0)
        self._per_batch = per_batch
        self._processes = processes

    def __len__(self) -> int:
        return len(self.steps) * self._per_batch // self._processes.count

    def __iter__(self) -> Iterator[int]:
        share = self._per_batch // self._processes.count
        for step in self.steps:
            start = step * self._per_batch + self._processes.rank * share
            yield from range(start, start + share)


class _Threaded(Dataset[Drawn]):
    """Draws a batch in as many threads as PyTorch computes with.

    OpenCV, NumPy and PyAV let other threads run while they work.
    """

    def __init__(self, dataset: PairDataset | PlainDataset) -> None:
        self._dataset = dataset
        self._threads = ThreadPoolExecutor(torch.get_num_threads(), "torchfakes-crops")

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, numbers: Sequence[int]) -> list[Drawn]:
        """The draws of a batch, as PyTorch's loader asks for them."""
        return list(self._threads.map(self._dataset.__getitem__, numbers))


def usual_workers(device: torch.device) -> int:
    """How many processes read crops for one that learns: none where the CPU learns, else the cores shared out."""
    if device.type == "cpu":
        return 0
    return min(MAX_WORKERS, max(1, ((os.cpu_count() or 1) - 1) // processes_here()))


def _init_worker(_: int) -> None:
    """Keep a reading process to one thread, as the processes are the parallelism, and leave Ctrl-C to the training."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
