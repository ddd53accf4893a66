"""A training that was interrupted goes on as if it never had been; what it saves is whole whenever it is killed."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.training.crop_folders import write_crops
from torchfakes_cli.detector.checkpoint import load_checkpoint
from torchfakes_cli.errors import CheckpointError, OutputError, UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.state import STATE, load_state, saved_config
from torchfakes_cli.training.fit.train import TrainProgress, train_detector

#: Everything that could carry something from step to step: dropout, momentum, an average, blending, augmentation.
EAGER = TrainConfig(
    start="scratch", epochs=2, samples_per_epoch=8, batch=4, input_size=75, workers=0, self_blend=0.5,
    augment="strong", learning_rate=1e-3, ema=0.9, device="cpu", save_minutes=0,
)  # fmt: skip
#: Columns of the log that depend on the clock and the machine.
MEASURED = ("seconds", "crops_per_second", "memory_mb")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("crops"), {"train": 2, "val": 1}, frames=3)


def interrupt_at(step: int, batch: int = 4) -> Callable[[TrainProgress], None]:
    """A callback that ends training as Ctrl-C does, after an update (from 1)."""

    def progress(told: TrainProgress) -> None:
        if told.samples == step * batch and not told.warning:
            raise KeyboardInterrupt

    return progress


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "last.safetensors")[0]


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def assert_same_training(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log(first) == log(second)
    assert load_checkpoint(first / "best.safetensors")[1] == load_checkpoint(second / "best.safetensors")[1]


@pytest.fixture(scope="module")
def uninterrupted(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train_detector(crops, replace(EAGER, out=str(folder)))
    return folder


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(
    crops: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    for step in (2, 3):  # at the end of an epoch, before it is measured, and in the middle of one
        with pytest.raises(KeyboardInterrupt):
            train_detector(crops, replace(EAGER, out=str(tmp_path), resume=step > 2), interrupt_at(step))
        assert load_state(tmp_path, tensors=False).run_state.step == step
    torch.rand(7)  # what else the program draws must not matter
    summary = train_detector(crops, saved_config(tmp_path))
    assert_same_training(tmp_path, uninterrupted)
    assert not (tmp_path / STATE).exists()
    assert summary.warnings
    assert [row["epoch"] for row in log(tmp_path)] == ["1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "learning_rate": 0.01, "sizes": (75, 80), "input_size": None},
        {"optimizer": "adam", "micro_batch": 2, "schedule": "linear", "precision": "fp32"},
        {"ema": 0.0, "sampling": "plain", "ranking": 0.0, "self_blend": 0.0},
        {"backbone": "EfficientNetLite0", "workers": 1},
    ],
)
def test_every_way_to_train_resumes_to_the_bit(crops: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    config = replace(EAGER, **changes)  # type: ignore[arg-type]
    train_detector(crops, replace(config, out=str(tmp_path / "whole")))
    out = str(tmp_path / "parts")
    for step in (2, 3):  # at the end of an epoch, before it is measured, and in the middle of one
        with pytest.raises(KeyboardInterrupt):
            train_detector(crops, replace(config, out=out, resume=step > 2), interrupt_at(step))
    train_detector(crops, replace(config, out=out, resume=True, workers=0))
    assert_same_training(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_what_can_not_be_resumed_says_why(crops: Path, uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="its training is finished"):
        train_detector(crops, replace(EAGER, out=str(uninterrupted), resume=True))
    with pytest.raises(OutputError, match="no training was interrupted there"):
        saved_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_detector(crops, replace(EAGER, out=str(tmp_path)), interrupt_at(1))
    with pytest.raises(UsageError, match=r"--lr 0\.001 and can't go on with 0\.1"):
        train_detector(crops, replace(EAGER, out=str(tmp_path), resume=True, learning_rate=0.1))
    with pytest.raises(OutputError, match="--resume"):
        train_detector(crops, replace(EAGER, out=str(tmp_path)))
    other = write_crops(tmp_path / "other", {"train": 3, "val": 1}, frames=2)
    with pytest.raises(OutputError, match="its crops are not those"):
        train_detector(other, replace(EAGER, out=str(tmp_path), resume=True))
    content = (tmp_path / STATE).read_bytes()
    for damaged in (
        content[: len(content) // 2],
        b"",
        b"\x80\x04payload",
        content.replace(b"network.logits", b"netwerk.logits", 1),
    ):
        (tmp_path / STATE).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="--force"):
            train_detector(crops, replace(EAGER, out=str(tmp_path), resume=True))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "torchfakes_cli", "train", *map(str, arguments)]


OPTIONS = ("--weights", "scratch", "--epochs", 3, "--samples-per-epoch", 8, "--batch-size", 4, "--input-size", 75,
           "--workers", 1, "--device", "cpu", "--optimizer", "sgd", "--ema", 0)  # fmt: skip
SAVING_ALWAYS = (*OPTIONS, "--save-minutes", 1e-9)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_ends_cleanly_with_a_hint(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        # Two more epochs, too long to be over before the signal comes.
        command(crops, "--output", out, *OPTIONS, "--samples-per-epoch", 96),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(out / STATE)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert "--resume" in errors
    assert "Traceback" not in errors
    ended = subprocess.run(command(crops, "--output", out, "--resume"), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert [row["epoch"] for row in log(out)] == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_killed_at_any_instant_it_goes_on(crops: Path, tmp_path: Path) -> None:
    """It saves after every step, so that most kills fall into the middle of a save."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(crops, "--output", whole, *SAVING_ALWAYS), capture_output=True, check=True)
    chance, rounds = random.Random(0), 0
    with subprocess.Popen(command(crops, "--output", out, *SAVING_ALWAYS), stderr=subprocess.DEVNULL) as process:
        wait_for(out / STATE)
        process.kill()
    while rounds < 8:
        run_state = load_state(out).run_state
        assert [record["epoch"] for record in run_state.records] == list(range(1, run_state.epoch))
        for name in ("best.safetensors", "last.safetensors"):
            if (out / name).exists():
                load_checkpoint(out / name)
        changed = (out / STATE).stat().st_mtime_ns
        with subprocess.Popen(
            command(crops, "--output", out, "--resume"), stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None and (out / STATE).exists() and (out / STATE).stat().st_mtime_ns == changed:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.4))
            process.kill()
            assert process.stderr is not None
            assert "error" not in process.stderr.read()
        rounds += 1
        if not (out / STATE).exists():
            break
    if (out / STATE).exists():
        subprocess.run(command(crops, "--output", out, "--resume"), capture_output=True, check=True)
    assert_same_training(out, whole)
    assert pd.read_csv(out / "log.csv")["epoch"].tolist() == [1, 2, 3]
    assert not list(out.glob(".*"))[9:]  # a killed process leaves its temporary file, at most one each


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not path.exists():
        time.sleep(0.02)
    assert path.exists()
