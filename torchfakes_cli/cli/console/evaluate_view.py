"""How an evaluation is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.screen import safe

if TYPE_CHECKING:
    from torchfakes_cli.training.findings import Calibration, Estimate, Evaluation, Result


def evaluation_table(evaluation: Evaluation) -> Table:
    """One row for each detector on each set of crops, by video."""
    table = Table(caption="by video; 95 % intervals draw whole groups", caption_justify="left")
    several = len(evaluation.models) > 1
    table.add_column("corpus")
    if several:
        table.add_column("model")
    for name in ("real", "fake", "AUC", "EER", "firm", "right if firm", "ECE"):
        table.add_column(name, justify="right")
    for result in evaluation.results:
        video = result.video
        names = [Text(safe(name)) for name in ([result.source, result.model] if several else [result.source])]
        table.add_row(
            *names,
            str(video.real),
            str(video.fake),
            with_interval(video.auc),
            share(video.eer),
            share(video.coverage),
            share(video.selective_accuracy),
            share(video.ece),
        )
    return table


def slices_table(result: Result) -> Table:
    """How the detector does on parts of the videos."""
    table = Table()
    for name in ("by", "which"):
        table.add_column(name)
    for name in ("fake", "real", "AUC", "called real", "open", "called fake"):
        table.add_column(name, justify="right")
    previous = ""
    for part in result.slices:
        if previous and part.by != previous:
            table.add_section()
        fakes = part.verdicts["fake"]
        table.add_row(
            "" if part.by == previous else part.by,
            Text(safe(part.name)),
            str(part.fake),
            str(part.real),
            with_interval(part.auc),
            *(str(fakes[verdict]) for verdict in ("real", "inconclusive", "fake")),
        )
        previous = part.by
    return table


def calibration_text(calibration: Calibration) -> Text:
    """What was fitted, and what it is worth on others."""
    lines = [
        f"{calibration.path}: {calibration.method} fitted on {calibration.fitted_on}; real below "
        f"{calibration.real_below:.3f}, fake from {calibration.fake_above:.3f}"
    ]
    for name, part in (("before", calibration.before), ("new, cross-validated", calibration.cross_validated)):
        if part is not None and part.log_loss is not None and part.ece is not None:
            lines.append(f"{name}: log loss {part.log_loss:.3f}, ECE {part.ece:.3f}")
    return Text("\n".join(safe(line) for line in lines))


def with_interval(estimate: Estimate) -> str:
    """A figure and its interval, or that it can't be told."""
    if estimate.value is None:
        return "unknown"
    interval = "" if estimate.low is None else f" ({estimate.low:.2f}–{estimate.high:.2f})"
    return f"{estimate.value:.3f}{interval}"


def share(estimate: Estimate) -> str:
    """A figure alone."""
    return "unknown" if estimate.value is None else f"{estimate.value:.2f}"
