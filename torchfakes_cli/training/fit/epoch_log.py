"""The log of a training, ``log.csv`` with one record an epoch, and ``curves.png`` drawn from it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchfakes_cli.files import write_atomically
from torchfakes_cli.training.corpora import FAKE

LOG, CURVES = "log.csv", "curves.png"


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch's figures.

    Attributes:
        epoch: from 1.
        step: updates made until its end.
        seconds: it took, validation included.
        loss: mean over its training crops.
        accuracy: share of its training crops on the right side of zero, while it was learning.
        val_loss: binary cross-entropy over the validation crops.
        val_accuracy: share of the validation crops on the right side of zero.
        val_frame_auc: over validation crops.
        val_video_auc: over validation videos.
        val_called_fake: share of the validation crops with a positive logit.
        learning_rate: at the end.
        crops_per_second: trained on, validation left out.
        memory_mb: the most taken until now, in MiB; None where the system doesn't report it.
        gradient_norm: mean over its updates, before it was scaled down.
        gradient_norms: of each block of the network, mean over its updates.
    """

    epoch: int
    step: int
    seconds: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_frame_auc: float | None
    val_video_auc: float | None
    val_called_fake: float
    learning_rate: float
    crops_per_second: float
    memory_mb: float | None
    gradient_norm: float
    gradient_norms: dict[str, float]

    def figures(self) -> dict[str, float | None]:
        """The figures by column of ``log.csv``."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "gradient_norms"}
        return plain | {f"gradient_{name}": norm for name, norm in self.gradient_norms.items()}


def write_log(folder: Path, records: Sequence[EpochRecord]) -> None:
    """Write all epochs' figures; the file is replaced as a whole, so that no row is doubled, lost or torn.

    Raises:
        OutputError: it can't be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if records:
        writer.writerow(records[0].figures())
    for record in records:
        writer.writerow(_cell(value) for value in record.figures().values())
    write_atomically(folder / LOG, text.getvalue().encode())


def validation_loss(rows: pd.DataFrame) -> tuple[float, float]:
    """Mean binary cross-entropy and accuracy of scored rows, as training counts them."""
    logits, fake = rows["logit"].to_numpy(np.float64), np.asarray(rows["label"] == FAKE)
    # log(1 + exp(x)) without overflow.
    loss = np.logaddexp(0, np.where(fake, -logits, logits)).mean()
    return float(loss), float(((logits > 0) == fake).mean())


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


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

    for name in records[-1].gradient_norms if records else ():
        norms = [record.gradient_norms.get(name) or float("nan") for record in records]
        gradients.plot(epochs, norms, label=name)
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
