"""A training's course as a picture, drawn anew after every epoch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchfakes_cli.detector.checkpoint import write_atomically
from torchfakes_cli.training.fitting.blocks import BLOCKS
from torchfakes_cli.training.fitting.journal import EpochRecord

CURVES = "curves.png"


def write_curves(folder: Path, records: Sequence[EpochRecord]) -> None:
    """Draw loss, accuracy and AUC, learning rate and gradients by epoch.

    Raises:
        OutputError: the picture can't be written.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [record.epoch for record in records]
    loss, merit, rate, gradients = figure.subplots(2, 2).flat

    loss.plot(epochs, [record.loss for record in records], label="training (augmented, with ranking)")
    loss.plot(epochs, [record.val_loss for record in records], label="validation (cross-entropy)")
    _finish(loss, "loss")

    for values, label, style in (
        ([record.accuracy for record in records], "training accuracy", ":"),
        ([record.val_accuracy for record in records], "validation accuracy", "--"),
        ([_or_gap(record.val_frame_auc) for record in records], "validation AUC by frame", "-"),
        ([_or_gap(record.val_video_auc) for record in records], "validation AUC by video", "-"),
    ):
        merit.plot(epochs, values, style, label=label)
    merit.axhline(0.5, color="0.8", linewidth=1, zorder=0)
    merit.set_ylim(top=1.02)
    _finish(merit, "accuracy and AUC")

    rate.plot(epochs, [record.learning_rate for record in records], label="learning rate at the epoch's end")
    _finish(rate, "learning rate")
    rate.set_ylim(bottom=0)

    colours = [f"C{place}" for place in range(len(BLOCKS))]
    for place, (name, colour) in enumerate(zip(BLOCKS, colours, strict=True)):
        norms = [record.gradient_norms[place] or float("nan") for record in records]
        gradients.plot(epochs, norms, color=colour, label=name)
    gradients.set_yscale("log")
    _finish(gradients, "gradient norm by block, from the picture to the logit", columns=5)

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_atomically(folder / CURVES, picture.getvalue())


def _finish(axes: Axes, title: str, columns: int = 1) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # A single epoch is a point, which a line wouldn't show.
    for line in axes.lines:
        if len(line.get_xdata()) == 1:  # type: ignore[arg-type]
            line.set_marker("o")
    if columns > 1:
        axes.legend(fontsize=8, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False)
    else:
        axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value
