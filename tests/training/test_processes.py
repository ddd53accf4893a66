"""Processes that torchrun starts, on one machine or on two, learn from a batch what one process learns."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.crop_folders import write_crops
from tests.training.gradients import BATCH, gradients
from torchfakes_cli.detector.checkpoint import load_checkpoint
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import read_manifest
from torchfakes_cli.training.fit.datasets import TrainingCrops, usual_workers
from torchfakes_cli.training.fit.processes import Processes
from torchfakes_cli.training.fit.state import STATE, load_state

OPTIONS = ("--weights", "scratch", "--epochs", 1, "--samples-per-epoch", 24, "--batch-size", 8, "--input-size", 75,
           "--workers", 0, "--device", "cpu", "--dropout", 0, "--precision", "fp32", "--ema", 0, "--optimizer", "sgd",
           "--lr", 0.001)  # fmt: skip


def test_processes_share_every_batch(tmp_path: Path) -> None:
    folder = write_crops(tmp_path, {"train": 2}, frames=2)
    config = TrainConfig(batch=8, samples_per_epoch=16, input_size=75, workers=0, epochs=2)
    table = read_manifest(folder)
    whole = list(TrainingCrops(table, folder, config, Processes(), torch.device("cpu")).epoch(2, 2))
    halves = [
        list(TrainingCrops(table, folder, config, Processes(rank, 2), torch.device("cpu")).epoch(2, 2))
        for rank in (0, 1)
    ]
    assert len(whole) == 2
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch.pictures, torch.cat([part.pictures for part in parts]))
        assert torch.equal(batch.labels, torch.cat([part.labels for part in parts]))
    with pytest.raises(UsageError, match="can't be shared among 3 processes"):
        TrainingCrops(table, folder, config, Processes(0, 3), torch.device("cpu"))


def test_reading_processes_share_the_cores_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 33)
    monkeypatch.setenv("WORLD_SIZE", "32")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert usual_workers(torch.device("cuda")) == 4
    assert usual_workers(torch.device("cpu")) == 0


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def launches(machines: int) -> list[list[str]]:
    """The documented command line of torchrun for two processes, on each machine."""
    start = [sys.executable, "-m", "torch.distributed.run"]
    if machines == 1:
        return [[*start, "--standalone", "--nproc-per-node", "2"]]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "7"]
    return [[*start, "--nnodes", "2", "--nproc-per-node", "1", *meeting]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_the_gradients_of_two_processes_are_those_of_one(machines: int, tmp_path: Path) -> None:
    """Of one process, that is, which sees the whole batch at once."""
    command = ["-m", "tests.training.gradients", str(tmp_path)]
    started = [subprocess.Popen([*launch, *command], stderr=subprocess.PIPE) for launch in launches(machines)]
    for process in started:
        _, told = process.communicate()
        assert process.returncode == 0, told.decode()
    one = gradients(Processes())
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys() == one.keys()
    assert all(torch.equal(first[name], second[name]) for name in one)
    assert distance(first, one) < 1e-5
    # What it would be if each process kept to its own half.
    assert distance(gradients(Processes(), slice(BATCH // 2)), one) > 0.1


def distance(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Between two gradients, as a share of the second one's length."""
    apart = sum(float((some[name] - other).square().sum()) for name, other in others.items())
    return (apart / sum(float(other.square().sum()) for other in others.values())) ** 0.5


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_in_two_halves(tmp_path: Path) -> None:
    """Compared are the weights after three steps, not batch norm's running figures.

    Each process normalizes its own half, as one process does with micro-batches of half the size; but that one follows
    both halves in turn with its running figures, and the two processes' figures are averaged. Each process has one
    thread: with more, sums come in another order, and batch norm over so few crops makes much of the difference.
    """
    folder = write_crops(tmp_path / "crops", {"train": 2, "val": 1}, frames=2)
    command = ["-m", "torchfakes_cli", "train", folder, *OPTIONS]
    runs = {
        "one": [sys.executable, *command, "--micro-batch", 4],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, *command],
    }
    for name, arguments in runs.items():
        ended = subprocess.run(
            [*map(str, arguments), "--output", tmp_path / name],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("validation") == 1
    one, two = (load_checkpoint(tmp_path / name / "last.safetensors")[0] for name in runs)
    for name, tensor in one.items():
        if "running" not in name:
            assert torch.allclose(tensor, two[name], rtol=1e-3, atol=1e-5), name
    assert len((tmp_path / "two" / "log.csv").read_text().splitlines()) == 2


@pytest.mark.slow
def test_what_is_left_of_a_training_that_lost_a_process_can_go_on(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 2, "val": 1}, frames=2)
    out = tmp_path / "out"
    options = [*map(str, OPTIONS), "--epochs", "1000", "--samples-per-epoch", "8", "--output", str(out)]
    # What torchrun tells its processes. As on two machines, neither is ended for the other's sake.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-m", "torchfakes_cli", "train", str(folder), *options],
            env={**os.environ, **shared, "RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    try:
        while not (out / STATE).exists() and first.poll() is None:
            time.sleep(0.2)
    finally:
        second.kill()
        second.communicate()
    _, told = first.communicate()
    assert first.returncode == 1
    assert "another process of this training has ended or doesn't answer" in told.splitlines()[-1]
    assert load_state(out).run_state.step >= 1
