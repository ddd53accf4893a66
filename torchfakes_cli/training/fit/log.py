"""Figures of a running training: ``log.csv``, ``curves.png``, TensorBoard, and Weights & Biases.

A record of an epoch has the columns of ``log.csv``: epoch and step, seconds with validation, loss and accuracy in
training, ``val_loss`` (cross-entropy), ``val_accuracy``, ``val_frame_auc``, ``val_video_auc`` and ``val_called_fake``
(share of the crops), learning_rate at the end, crops_per_second without validation, memory_mb (peak, MiB),
``gradient_norm`` (mean over updates, before it was scaled down) and ``gradient_BLOCK`` of each block of the network.
"""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

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
    """Write the records of all epochs; the file is replaced as a whole, so that no row is doubled, lost or torn."""
    write_atomically(folder / LOG, pd.DataFrame(records).to_csv(index=False, float_format="%.6g").encode())


def write_curves(folder: Path, records: Sequence[Record]) -> None:
    """Draw loss, accuracy and AUC, learning rate and gradients by epoch."""
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


class Tracker(NamedTuple):
    """An experiment tracker: ``log`` takes a step, from 1, and its figures; ``close`` writes what is still buffered."""

    log: Callable[[int, dict[str, float]], None]
    close: Callable[[], None]


def check_trackers(config: TrainConfig) -> None:
    """Check that the trackers are installed before anything is changed."""
    for name in config.track:
        if importlib.util.find_spec(name) is None:
            advice = f"Install it with: pip install 'torchfakes[{name}]'"
            raise UsageError(f"--logger {name} needs the package {name}", advice=advice)


def open_trackers(config: TrainConfig, run: str, step: int) -> list[Tracker]:
    """Open the trackers of a training; TensorBoard discards what was logged of later steps before a resumption."""
    return [_tensorboard(config, step) if name == "tensorboard" else _wandb(config, run) for name in config.track]


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


def _tensorboard(config: TrainConfig, step: int) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(Path(config.out, "tensorboard")), purge_step=step + 1 if step else None)

    def log(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    return Tracker(log, writer.close)


def _wandb(config: TrainConfig, run: str) -> Tracker:
    # It would otherwise write into the current folder.
    os.environ.setdefault("WANDB_DIR", config.out)
    opened: Any = importlib.import_module("wandb").init(
        project="torchfakes", name=config.name, id=run, resume="allow", dir=config.out, config=asdict(config)
    )
    return Tracker(lambda step, figures: opened.log(figures, step=step), opened.finish)
