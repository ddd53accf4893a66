"""How a training's end is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from torchfakes_cli.training.evaluate.scores import Scores
    from torchfakes_cli.training.fit.train import TrainSummary


def training_table(summary: TrainSummary) -> Table:
    """How the best checkpoint does on people it was chosen with, and on people it never saw."""
    header = summary.header
    caption = (
        f"best epoch {summary.best_epoch}; a video is called fake from p_fake {header.fake_above:.2f} "
        f"and real below {header.real_below:.2f}"
    )
    table = scores_table(caption)
    add_scores(table, "validation", summary.validation)
    if summary.test:
        add_scores(table, "test", summary.test)
    return table


def scores_table(caption: str) -> Table:
    """A table for ``add_scores``."""
    table = Table(caption=caption, caption_justify="left")
    table.add_column("groups")
    for name in ("videos", "crops", "frame AUC", "video AUC", "95 % interval"):
        table.add_column(name, justify="right")
    return table


def test_verdicts(verdicts: Mapping[str, Mapping[str, int]]) -> Text:
    """What a checkpoint would say of the test videos, by their labels."""
    return Text("\n".join(verdict_lines(verdicts, "test videos")))


def verdict_lines(verdicts: Mapping[str, Mapping[str, int]], videos: str) -> list[str]:
    """How many real and fake videos get which verdict, a line each."""
    lines = []
    for label, counts in verdicts.items():
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines.append(f"of {sum(counts.values())} {label} {videos}: {said}")
    return lines


def figure(value: float | None) -> str:
    """Format a share to three places, or say that it is undefined."""
    return "unknown" if value is None else f"{value:.3f}"


def add_scores(table: Table, name: str, scores: Scores) -> None:
    """A row of what was measured on some groups."""
    interval = scores.video_auc_interval
    table.add_row(
        name,
        str(scores.videos),
        str(scores.crops),
        figure(scores.frame_auc),
        figure(scores.video_auc),
        "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}",
    )
