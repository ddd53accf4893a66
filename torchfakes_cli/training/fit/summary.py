"""Progress and summary of a training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import build_network, load_weights
from torchfakes_cli.training.evaluate.calibrate import calibrated
from torchfakes_cli.training.evaluate.metrics import verdict_counts
from torchfakes_cli.training.evaluate.scores import Scores, judge_videos, measure, with_compression

BEST, LAST = "best.safetensors", "last.safetensors"


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Progress after a step.

    Attributes:
        epoch: from 1.
        samples: crops seen so far in the whole training.
        samples_wanted: crops in the whole training.
        loss: running mean of the loss over the epoch.
        accuracy: running share of training crops on the right side of zero.
        validation: right after an epoch's validation, else None.
        warning: something the user should know, as written to the summary; else empty.
    """

    epoch: int
    samples: int
    samples_wanted: int
    loss: float
    accuracy: float
    validation: Scores | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """Results of a training.

    Attributes:
        best: path of the calibrated checkpoint with the best validation.
        last: path of the checkpoint after the last epoch.
        best_epoch: from 1.
        validation: of the best checkpoint, on all validation videos.
        test: of the best checkpoint on groups kept out of everything; None where there are none.
        test_verdicts: how many real and fake test videos get which verdict, see ``verdict_counts``.
        header: of the best checkpoint.
        warnings: all that came up.
    """

    best: str
    last: str
    best_epoch: int
    validation: Scores
    test: Scores | None
    test_verdicts: dict[str, dict[str, int]]
    header: Header
    warnings: tuple[str, ...]


def conclude(
    out: Path, warnings: Sequence[str], score: Callable[[nn.Module, pd.DataFrame], pd.DataFrame],
    held_out: pd.DataFrame, test: pd.DataFrame, unreadable: Collection[str], *, write: bool,
) -> TrainSummary:  # fmt: skip
    """Calibrate the best checkpoint on all validation videos and measure it on the test groups.

    Args:
        out: folder of the training.
        warnings: that came up until now.
        score: gives crops their logits.
        held_out: the validation crops.
        test: the test crops; none is fine.
        unreadable: grows while crops are scored.
        write: replace the best checkpoint by the calibrated one.
    """
    state, saved = load_checkpoint(out / BEST)
    # Half precision is exact enough for weights and halves the file; what is measured is what is kept.
    state = {name: tensor.half() for name, tensor in state.items()}
    network = build_network(saved.architecture)
    load_weights(network, state)
    network.eval()
    rows = score(network, held_out)
    header = calibrated(saved, rows)
    validation = measure(rows, interval=True)
    metrics: dict[str, Any] = {"validation": asdict(validation)}
    tested, verdicts = None, {}
    if len(test):
        rows = score(network, test)
        tested, verdicts = measure(rows, interval=True), verdict_counts(judge_videos(with_compression(rows), header))
        metrics |= {"test": asdict(tested), "test_verdicts": verdicts}
    header = replace(header, metrics=metrics)
    if write:
        save_checkpoint(out / BEST, state, header, torch.float16)
    messages = list(warnings)
    if not header.slope:
        messages.append("scores don't separate real from fake on the validation videos: every verdict will be open")
    if unreadable:
        messages.append(f"{len(unreadable)} validation or test crops could not be read, such as {min(unreadable)}")
    return TrainSummary(
        best=str(out / BEST),
        last=str(out / LAST),
        best_epoch=header.training["epoch"],
        validation=validation,
        test=tested,
        test_verdicts=verdicts,
        header=header,
        warnings=tuple(messages),
    )
