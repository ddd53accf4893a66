"""Figures of a running training: ``log.csv``, ``curves.png``, TensorBoard, and Weights & Biases.

A record of an epoch has the columns of ``log.csv``: epoch and step, seconds with validation, loss and accuracy in
training, ``val_loss`` (cross-entropy), ``val_accuracy``, ``val_frame_auc``, ``val_video_auc`` and ``val_called_fake``
(share of the crops), learning_rate at the end, crops_per_second without validation, memory_mb (peak, MiB),
``gradient_norm`` (mean over updates, before it was scaled down) and ``gradient_BLOCK`` of each block of the network.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchfakes_cli.errors import UsageError
from torchfakes_cli.files import write_atomically
from torchfakes_cli.training.config import TrainConfig

LOG, CURVES = "log.csv", "curves.png"
#: Interval of the reports to trackers, in updates.
TRACK_EVERY = 10

#: Figures by column of ``log.csv``; None for what is unknown.
Record = dict[str, float | None]


def write_log(folder: Path, records: Sequence[Record]) -> None:
    """Write the records of all epochs; the file is replaced as a whole, so that no row is doubled, lost or torn.

    Raises:
        OutputError: it can't be written.
    """
    write_atomically(folder / LOG, pd.DataFrame(records).to_csv(index=False, float_format="%.6g").encode())


def write_curves(folder: Path, records: Sequence[Record]) -> None:
    """Draw loss, accuracy and AUC, learning rate and gradients by epoch.

    Raises:
        OutputError: the picture can't be written.
    """
    table = pd.DataFrame(records).astype(float)
    blocks = [name for name in records[0] if name.startswith("gradient_") and name != "gradient_norm"]
    panels: dict[str, dict[str, str]] = {
        "loss": {"loss": "training (augmented, with ranking)", "val_loss": "validation (cross-entropy)"},
        "accuracy and AUC": {
            "accuracy": "training accuracy",
            "val_accuracy": "validation accuracy",
            "val_frame_auc": "validation AUC by frame",
            "val_video_auc": "validation AUC by video",
        },
        "learning rate": {"learning_rate": "learning rate at the epoch's end"},
        "gradient norm by block, from the picture to the logit": {
            name: name.removeprefix("gradient_") for name in blocks
        },
    }
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for column, label in lines.items():
            axes.plot(table["epoch"], table[column], label=label, marker="o" if len(table) == 1 else None)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_yscale("log")
    axes.legend(fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_atomically(folder / CURVES, picture.getvalue())


class Tracker(Protocol):
    """Protocol of an experiment tracker."""

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Take the figures of an update, from 1."""

    def close(self) -> None:
        """Write what is still buffered."""


def check_trackers(config: TrainConfig) -> None:
    """Check that the trackers are installed before anything is changed.

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
    """Open the trackers of a training.

    Args:
        config: configuration of the training.
        run: an identifier that stays the same after resuming.
        step: updates made before; TensorBoard discards what was logged of later ones.
    """
    return [
        _TensorBoard(Path(config.out), step) if name == "tensorboard" else _WeightsAndBiases(config, run)
        for name in config.track
    ]


def track(trackers: Sequence[Tracker], step: int, record: Record) -> None:
    """Report figures of a step, named by groups: ``train/loss``, ``validation/video_auc``, ``gradients/stem``."""
    groups = {"val": "validation", "gradient": "gradients"}
    named = {}
    for name, value in record.items():
        kind, _, rest = name.partition("_")
        split = kind in groups and name != "gradient_norm"
        if value is not None:
            named[f"{groups[kind]}/{rest}" if split else f"train/{name}"] = value
    for tracker in trackers:
        tracker.log(step, named)


class _TensorBoard:
    def __init__(self, out: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, config: TrainConfig, run: str) -> None:
        # It would otherwise write into the current folder.
        os.environ.setdefault("WANDB_DIR", config.out)
        self._run: Any = importlib.import_module("wandb").init(
            project="torchfakes", name=config.name, id=run, resume="allow", dir=config.out, config=asdict(config)
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self) -> None:
        self._run.finish()
