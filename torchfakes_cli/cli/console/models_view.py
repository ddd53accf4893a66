"""Tables of detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.screen import Screen
from torchfakes_cli.report.summary import safe


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table of untrusted text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    return table


def show_header(screen: Screen, words: Mapping[str, Mapping[str, str]]) -> None:
    """Show groups of names and values: a table on a terminal, one a line elsewhere."""
    if not screen.is_terminal:
        for group, entries in words.items():
            for name, value in entries.items():
                screen.line(safe(f"{group}: {name}: {value}" if name else f"{group}: {value}"))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for group, entries in words.items():
        table.add_row(Text(group, style="bold"))
        for name, value in entries.items():
            table.add_row(Text(f"  {safe(name)}"), Text(safe(value)))
    screen.result(table)


def show_card(screen: Screen, card: str) -> None:
    """Show a model card: rendered on a terminal, as plain text elsewhere."""
    if screen.is_terminal:
        screen.result(Markdown(card))
    else:
        screen.line(card)
