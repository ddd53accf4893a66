"""How fast crops are loaded and learnt from, against a straightforward loop in the same run. Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_training_speed.py
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from tests.benchmark.plain_training import PlainCrops, plain_loader, plain_steps
from tests.portraits import scene
from tests.training.crop_folders import row
from torchfakes_cli.config import TrainConfig
from torchfakes_cli.detector import Header
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.training.crops.manifest import COLUMNS, read_manifest
from torchfakes_cli.training.fitting.average import RunningAverage
from torchfakes_cli.training.fitting.loading import TrainingCrops
from torchfakes_cli.training.fitting.memory import keeping_freed_memory
from torchfakes_cli.training.fitting.processes import Processes
from torchfakes_cli.training.fitting.update import Updater

pytestmark = pytest.mark.benchmark
CPU = torch.device("cpu")
BATCH = 16
#: Of the plain loop: one a core, as PyTorch suggests. In the training it was as fast with one, and slower with none.
WORKERS = os.cpu_count() or 1
#: Alternated, so that whatever else the machine does meets both.
ROUNDS = 4
#: Batches that are timed in each round.
LOADED, LEARNT = 60, 20
#: Updates before those that are timed: the first ones fetch memory from the system.
WARM = 5


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sharp portraits of 256 px, as ``prepare`` writes them."""
    folder, rows = tmp_path_factory.mktemp("crops"), []
    rng = np.random.default_rng(0)
    for number in range(40):
        face = scene((256, 256), (128, 128), 170 + number) + rng.normal(0, 4, (256, 256, 3))
        for label, method in (("real", "film"), ("fake", "swap")):
            name = f"train/{label}/{method}/p{number}/0_1.png"
            (folder / name).parent.mkdir(parents=True)
            cv2.imwrite(str(folder / name), np.clip(face, 0, 255).astype(np.uint8)[..., ::-1])
            line = row(name, "train", label, method, number, 0)
            rows.append(line | {k: v * 256 / 96 for k, v in line.items() if k[0] == "l" and k[1] in "xy"})
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "manifest.csv", index=False)
    (folder / "prepare.json").write_text(json.dumps({"settings": {"margin": 1.3}}))
    return folder


def own(folder: Path, augment: str, batches: int) -> TrainingCrops:
    """Two epochs: crops are decoded in the first, and remembered from then on."""
    config = TrainConfig(
        batch=BATCH, samples_per_epoch=BATCH * batches, epochs=2, augment=augment, ramp=0.0, self_blend=0.0,
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
    average = RunningAverage(network, config.ema)
    updater = Updater(network, config, Header(name="x"), CPU, 1000, Processes(), pytest.fail)
    updater.begin_epoch(1)
    loader = own(folder, augment, LEARNT + WARM)
    for _ in loader.epoch(1, 0):
        pass
    with keeping_freed_memory():
        for step, batch in enumerate(loader.epoch(2, LEARNT + WARM)):
            updater.update(step, batch.pictures, batch.labels)
            average.follow(step)
            yield


def report(what: str, own_rates: list[float], plain_rates: list[float]) -> None:
    ratios = sorted(mine / theirs for mine, theirs in zip(own_rates, plain_rates, strict=True))
    print(
        f"\n{what}, {os.cpu_count()} cores, median of {ROUNDS} alternated rounds:"
        f"\n  torchfakes  {np.median(own_rates):7.1f} crops a second"
        f"\n  plain loop  {np.median(plain_rates):7.1f} crops a second"
        f"\n  {np.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


@pytest.mark.parametrize("augment", ["none", "strong"])
def test_loading(crops: Path, augment: str) -> None:
    first_rates, own_rates, plain_rates = [], [], []
    for _ in range(ROUNDS):
        loader = own(crops, augment, LOADED)
        # As many as there are crops: nearly all of them are decoded in these steps.
        first = itertools.islice(loader.epoch(1, 0), len(list(crops.rglob("*.png"))) // BATCH)
        first_rates.append(crops_per_second(first))
        for _ in loader.epoch(1, 0):
            pass
        own_rates.append(crops_per_second(loader.epoch(2, LOADED)))
        plain_batches = iter(plain_loader(plain(crops, augment, LOADED), BATCH, WORKERS))
        plain_rates.append(crops_per_second(plain_batches))
    report(f"loading with --augment {augment}", own_rates, plain_rates)
    report("  the same, of crops that are seen for the first time", first_rates, plain_rates)


def test_training(crops: Path) -> None:
    own_rates, plain_rates = [], []
    for _ in range(ROUNDS):
        own_rates.append(crops_per_second(own_steps(crops, "strong"), WARM))
        loader = plain_loader(plain(crops, "strong", LEARNT + WARM), BATCH, WORKERS)
        plain_rates.append(crops_per_second(plain_steps(iter(loader)), WARM))
    report("training at 160 px with --augment strong, batch 16", own_rates, plain_rates)
