"""Table of a run of ``prepare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from torchfakes_cli.report.text import safe

if TYPE_CHECKING:
    from torchfakes_cli.training.crops.report import PrepareSummary


def crops_table(summary: PrepareSummary) -> Table:
    """Make a table of counts by split, label and method, with a total."""
    table = Table(show_footer=True)
    counts = summary.counts
    table.add_column("split", footer="all")
    table.add_column("label")
    table.add_column("method")
    for name, total in (
        ("files", sum(count.videos for count in counts)),
        ("crops", summary.crops),
        ("usable", sum(count.usable for count in counts)),
        ("balanced", sum(count.balanced for count in counts)),
    ):
        table.add_column(name, footer=str(total), justify="right")
    previous = ""
    for count in counts:
        if previous and count.split != previous:
            table.add_section()
        previous = count.split
        numbers = (count.videos, count.crops, count.usable, count.balanced)
        table.add_row(count.split, count.label, Text(safe(count.method)), *(str(number) for number in numbers))
    return table
