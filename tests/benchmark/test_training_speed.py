"""How fast crops are loaded and learnt from, against a straightforward loop in the same run. Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_training_speed.py
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.benchmark.learning import BATCH, WORKERS, crops_per_second, own, plain
from tests.benchmark.plain_training import plain_loader
from tests.portraits import scene
from tests.training.crop_folders import row
from torchfakes_cli.cli import runtime_settings
from torchfakes_cli.training.crops.manifest import COLUMNS

pytestmark = pytest.mark.benchmark
#: Alternated, so that whatever else the machine does meets both.
ROUNDS = 4
#: Batches whose loading is timed in each round.
LOADED = 60


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
    # Each with the threads of its user's process: not with those of the tests.
    bare = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for _ in range(ROUNDS):
        own_rates.append(crops_learnt_per_second("torchfakes", crops, bare | runtime_settings("train")))
        plain_rates.append(crops_learnt_per_second("plain", crops, bare))
    report("training at 160 px with --augment strong, batch 16", own_rates, plain_rates)


def crops_learnt_per_second(side: str, crops: Path, environment: dict[str, str]) -> float:
    """Crops a second of one side of the training, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmark.learning", side, str(crops)]
    return float(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)
