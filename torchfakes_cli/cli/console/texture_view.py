"""How the fit of a texture is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.train_view import add_scores, figure, scores_table, verdict_lines

if TYPE_CHECKING:
    from torchfakes_cli.training.evaluation.findings import Probabilities
    from torchfakes_cli.training.fitting.add_texture import TextureSummary


def texture_table(summary: TextureSummary) -> Table:
    """The detector with and without the texture, and the texture alone."""
    header = summary.header
    table = scores_table(
        f"the network's logit weighs {summary.network_weight:g}; a video is called fake from p_fake "
        f"{header.fake_above:.2f} and real below {header.real_below:.2f}"
    )
    for name, scores in (
        ("test, network alone", summary.before),
        ("test, with texture", summary.test),
        ("all, texture alone, cross-validated", summary.alone),
    ):
        if scores is not None:
            add_scores(table, name, scores)
    return table


def judged_text(judged: Probabilities) -> Text:
    """What the texture's probabilities and verdicts are worth on groups that neither was fitted on."""
    lines = [f"all, texture alone, fitted and calibrated on other groups: calibration error {figure(judged.ece)}"]
    return Text("\n".join([*lines, *verdict_lines(judged.verdicts, "videos")]))


def left_out_table(summary: TextureSummary) -> Table:
    """The texture alone on fakes of each kind, known and never seen."""
    table = Table(caption="Video AUC of the texture alone on groups it wasn't fitted on.", caption_justify="left")
    table.add_column("fakes")
    table.add_column("kind known", justify="right")
    table.add_column("kind left out", justify="right")
    known = summary.alone.by_method if summary.alone else {}
    for method, auc in summary.left_out.items():
        table.add_row(method, figure(known.get(method)), figure(auc))
    return table
