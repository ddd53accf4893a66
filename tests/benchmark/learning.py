"""One side of the training's benchmark, by itself in a process: how its user would run it.

    python -m tests.benchmark.learning {torchfakes,plain} CROPS

Prints crops a second.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.benchmark.plain_training import PlainCrops, plain_loader, plain_steps
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import read_manifest
from torchfakes_cli.training.fit.datasets import TrainingCrops
from torchfakes_cli.training.fit.processes import Processes
from torchfakes_cli.training.fit.update import Updater

CPU = torch.device("cpu")
BATCH = 16
#: Of the plain loop: one a core, as PyTorch suggests. In the training it was as fast with one, and slower with none.
WORKERS = os.cpu_count() or 1
#: Batches that are timed.
LEARNT = 20
#: Updates before those that are timed: the first ones fetch memory from the system.
WARM = 5


def own(folder: Path, augment: str, batches: int) -> TrainingCrops:
    """Two epochs: crops are decoded in the first, and remembered from then on."""
    config = TrainConfig(
        batch=BATCH, samples_per_epoch=BATCH * batches, epochs=2, augment=augment, self_blend=0.0,
        input_size=160,
    )  # fmt: skip
    return TrainingCrops(read_manifest(folder), folder, config, Processes(), CPU)


def plain(folder: Path, augment: str, batches: int) -> PlainCrops:
    files = [(path, float("fake" in path.parts)) for path in sorted(folder.rglob("*.png"))]
    return PlainCrops(files, augment, BATCH * batches)


def crops_per_second(steps: Iterator[object], warm: int = 1) -> float:
    """Of all steps but the first ones, which start processes and warm up."""
    for _ in range(warm):
        next(steps)
    started, done = time.perf_counter(), 0
    for _ in steps:
        done += 1
    return done * BATCH / (time.perf_counter() - started)


def own_steps(folder: Path, augment: str) -> Iterator[None]:
    config = TrainConfig(start="scratch", batch=BATCH, augment=augment, device="cpu")
    network = build_network().to(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    updater = Updater(network, config, Header(name="x"), CPU, 1000, Processes(), sys.exit)
    loader = own(folder, augment, LEARNT + WARM)
    for _ in loader.epoch(1, 0):
        pass
    for step, batch in enumerate(loader.epoch(2, LEARNT + WARM)):
        updater.update(step, batch.pictures, batch.labels)
        average.update_parameters(network)
        yield


if __name__ == "__main__":
    side, crops = sys.argv[1], Path(sys.argv[2])
    if side == "plain":
        loader = plain_loader(plain(crops, "strong", LEARNT + WARM), BATCH, WORKERS)
        print(crops_per_second(plain_steps(iter(loader)), WARM))
    else:
        print(crops_per_second(own_steps(crops, "strong"), WARM))
