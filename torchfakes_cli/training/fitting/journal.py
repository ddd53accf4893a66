"""What a training writes down of itself: one record an epoch, as ``log.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from torchfakes_cli.detector.checkpoint import write_atomically
from torchfakes_cli.training.corpora import FAKE
from torchfakes_cli.training.fitting.blocks import BLOCKS

LOG = "log.csv"


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
        learning_rate: of the last block, at the end.
        crops_per_second: trained on, validation left out.
        memory_mb: the most taken until now, in MiB; None where the system doesn't tell.
        gradient_norm: mean over its updates, before it was scaled down.
        gradient_norms: of each of ``BLOCKS``, mean over its updates.
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
    gradient_norms: tuple[float, ...]

    def figures(self) -> dict[str, float | None]:
        """The figures by column of ``log.csv``."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "gradient_norms"}
        return plain | {f"gradient_{name}": norm for name, norm in zip(BLOCKS, self.gradient_norms, strict=True)}


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
