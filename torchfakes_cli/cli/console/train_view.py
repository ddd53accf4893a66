"""Results of a training on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from torchfakes_cli.training.fit.train import TrainSummary


def training_table(summary: TrainSummary) -> Table:
    """Make a table of the best checkpoint's figures on validation and test groups."""
    header = summary.header
    caption = (
        f"best epoch {summary.best_epoch}; a video is called fake from p_fake {header.fake_above:.2f} "
        f"and real below {header.real_below:.2f}"
    )
    table = Table(caption=caption, caption_justify="left")
    table.add_column("groups")
    for name in ("videos", "crops", "frame AUC", "video AUC", "95 % interval"):
        table.add_column(name, justify="right")
    for name, scores in (("validation", summary.validation), ("test", summary.test)):
        if scores is not None:
            interval = scores.video_auc_interval
            table.add_row(
                name,
                str(scores.videos),
                str(scores.crops),
                figure(scores.frame_auc),
                figure(scores.video_auc),
                "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}",
            )
    return table


def verdict_text(verdicts: Mapping[str, Mapping[str, int]]) -> Text:
    """Tell how many real and fake test videos get which verdict, on a line each."""
    lines = []
    for label, counts in verdicts.items():
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines.append(f"of {sum(counts.values())} {label} test videos: {said}")
    return Text("\n".join(lines))


def figure(value: float | None) -> str:
    """Format a share to three places; "unknown" for None."""
    return "unknown" if value is None else f"{value:.3f}"
