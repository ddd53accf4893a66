"""Table of the heat maps' shares by facial region."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from torchfakes_cli.report.heat_maps import Explanation

#: From so many times its area on a region stands out.
_STANDS_OUT = 1.25


def regions_table(explanation: Explanation) -> RenderableType:
    """Make a table of the shares by region, averaged over people.

    Args:
        explanation: with a face at least.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("region")
    for heading in ("area", "for fake", "per area", "for real", "per area"):
        table.add_column(heading, justify="right")
    for share in explanation.average:
        cells = [Text(f"{share.area:.0%}")]
        for heat in (share.fake, share.real):
            cells += _heat(heat, share.area)
        table.add_row(share.region, *cells)
    people = len({face.row.track for face in explanation.faces})
    of_whom = "one person" if people == 1 else f"{people} people"
    count = len(explanation.faces)
    over = "" if count == 1 else f", averaged over {count} faces of {of_whom}"
    headline = f"Where what speaks for fake and for real lies{over}:"
    legend = "per area: a region's share of the heat by its share of the area; 1.0 is no more than elsewhere."
    limits = "It shows where, not why, and coarsely: a map has few cells, and each sees much of the face."
    return Group(Text(headline), table, Text(legend, style="dim"), Text(limits, style="dim"))


def _heat(heat: float | None, area: float) -> list[Text]:
    if heat is None:
        return [Text("none", style="dim"), Text("")]
    if not area:
        return [Text(f"{heat:.0%}"), Text("")]
    times = heat / area
    return [Text(f"{heat:.0%}"), Text(f"{times:.1f}", style="bold" if times >= _STANDS_OUT else "")]
