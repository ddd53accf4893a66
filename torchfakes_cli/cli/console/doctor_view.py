"""Table of ``doctor``'s diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from torchfakes_cli.records import Fact, Severity
from torchfakes_cli.report.summary import safe

_STYLES = {Severity.GOOD: "", Severity.LIMITED: "yellow", Severity.BROKEN: "bold red"}


def facts_table(found: Mapping[str, Sequence[Fact]]) -> Table:
    """Make a table by group: name, value and reason; limits and errors are in colour."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "found or chosen", "why"):
        table.add_column(name, overflow="fold")
    for group, facts in found.items():
        table.add_row(Text(group, style="bold"))
        for fact in facts:
            style = _STYLES[fact.severity]
            table.add_row(f"  {safe(fact.name)}", Text(safe(fact.value), style=style), Text(safe(fact.why)))
    return table
