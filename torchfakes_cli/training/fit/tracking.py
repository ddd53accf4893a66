"""Experiment trackers that get the figures of a running training: TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.epoch_log import EpochRecord

#: Interval of the reports to trackers, in updates.
TRACK_EVERY = 10


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The figures of one update.

    Attributes:
        step: from 1.
        loss: of its crops.
        accuracy: share of its crops on the right side of zero.
        learning_rate: of the update.
        crops_per_second: since the last record.
        memory_mb: the most taken until now, in MiB; None where the system doesn't report it.
        gradient_norm: of the whole gradient, before it was scaled down.
        gradient_norms: of each block of the network.
    """

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    crops_per_second: float
    memory_mb: float | None
    gradient_norm: float
    gradient_norms: dict[str, float]

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("step", "gradient_norms")}
        named = {f"train/{name}": value for name, value in plain.items() if value is not None}
        return named | {f"gradients/{name}": norm for name, norm in self.gradient_norms.items()}


class Tracker(Protocol):
    """Protocol of a tracker, which gets figures during a training."""

    def step(self, record: StepRecord) -> None:
        """Take an update's figures."""

    def epoch(self, record: EpochRecord) -> None:
        """Take an epoch's figures."""

    def close(self) -> None:
        """Write what is still waiting."""


def check_trackers(config: TrainConfig) -> None:
    """Make sure that the trackers are there before anything is changed.

    Raises:
        UsageError: one isn't installed.
    """
    for name in config.track:
        try:
            importlib.import_module(name)
        except ImportError:
            advice = f"Install it with: pip install 'torchfakes[{name}]'"
            raise UsageError(f"--logger {name} needs the package {name}", advice=advice) from None


def open_trackers(config: TrainConfig, run: str, step: int) -> list[Tracker]:
    """Load the trackers that a training was asked to report to.

    Args:
        config: of the training.
        run: a name that is the same after resuming.
        step: updates made before; TensorBoard discards what was logged of later ones.
    """
    return [
        _TensorBoard(Path(config.out), step) if name == "tensorboard" else _WeightsAndBiases(config, run)
        for name in config.track
    ]


class _TensorBoard:
    def __init__(self, out: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)

    def step(self, record: StepRecord) -> None:
        for name, value in record.figures().items():
            self._writer.add_scalar(name, value, record.step)

    def epoch(self, record: EpochRecord) -> None:
        for name, value in _validation(record).items():
            self._writer.add_scalar(name, value, record.step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, config: TrainConfig, run: str) -> None:
        wandb = importlib.import_module("wandb")
        out = Path(config.out)
        # It would otherwise write into the current folder.
        os.environ.setdefault("WANDB_DIR", str(out))
        self._run: Any = wandb.init(
            project="torchfakes", name=config.name, id=run, resume="allow", dir=str(out), config=asdict(config)
        )

    def step(self, record: StepRecord) -> None:
        self._run.log(record.figures(), step=record.step)

    def epoch(self, record: EpochRecord) -> None:
        self._run.log(_validation(record), step=record.step)

    def close(self) -> None:
        self._run.finish()


def _validation(record: EpochRecord) -> dict[str, float]:
    found = {name: value for name, value in record.figures().items() if name.startswith("val_") and value is not None}
    return {name.replace("val_", "validation/"): value for name, value in found.items()}
