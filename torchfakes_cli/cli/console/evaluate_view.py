"""How an evaluation is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from torchfakes_cli.report.summary import safe

if TYPE_CHECKING:
    from torchfakes_cli.training.evaluate.findings import Calibration, Estimate, Evaluation, Result


def evaluation_table(evaluation: Evaluation) -> Table:
    """How one detector does on each set of crops."""
    caption = "By video; 95 % intervals draw whole groups. Firm: share of the verdicts; right: share of the firm ones."
    table = Table(caption=caption, caption_justify="left")
    table.add_column("corpus")
    for name in ("reals", "fakes", "AUC", "interval", "EER", "firm", "right", "ECE"):
        table.add_column(name, justify="right")
    for result in evaluation.results:
        video = result.video
        table.add_row(
            Text(safe(result.source)),
            str(video.real),
            str(video.fake),
            share(video.auc, 3),
            interval(video.auc),
            share(video.eer),
            share(video.coverage),
            share(video.selective_accuracy),
            share(video.ece),
        )
    return table


def comparison_table(evaluation: Evaluation) -> Table:
    """A row a set of crops, a column a detector."""
    table = Table(caption="AUC by video; 95 % intervals draw whole groups", caption_justify="left")
    table.add_column("corpus")
    for model in evaluation.models:
        table.add_column(Text(safe(model.name)), justify="right")
    for source in evaluation.sources:
        found = [result.video.auc for result in evaluation.results if result.source == source.name]
        cells = [f"{share(auc, 3)}  {interval(auc)}".rstrip() for auc in found]
        table.add_row(Text(safe(source.name)), *cells)
    return table


def methods_table(result: Result) -> Table:
    """How the detector does on each kind of fakes, and what it calls them."""
    caption = "By video, against the originals of these fakes where they are there; the last columns say what fakes"
    table = Table(caption=f"{caption} are called.", caption_justify="left")
    table.add_column("method")
    for name in ("fakes", "reals", "AUC", "interval", "real", "open", "fake"):
        table.add_column(name, justify="right")
    for part in result.slices:
        if part.by == "method":
            fakes = part.verdicts["fake"]
            table.add_row(
                Text(safe(part.name)),
                str(part.fake),
                str(part.real),
                share(part.auc, 3),
                interval(part.auc),
                *(str(fakes[verdict]) for verdict in ("real", "inconclusive", "fake")),
            )
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


def interval(estimate: Estimate) -> str:
    """Where a figure may lie; empty where that can't be told."""
    return "" if estimate.low is None else f"{estimate.low:.2f}–{estimate.high:.2f}"


def share(estimate: Estimate, digits: int = 2) -> str:
    """A figure alone, or that it can't be told."""
    return "unknown" if estimate.value is None else f"{estimate.value:.{digits}f}"
