"""Table of the time spent in each stage of a scan."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from torchfakes_cli.scan.scanner import Profile


def profile_table(profile: Profile, total_s: float) -> Table:
    """Make a table of seconds, share, and frames or faces a second by stage.

    Args:
        profile: of the scan.
        total_s: wall time since the command began; what no stage claims is its last row.
    """
    table = Table(box=box.SIMPLE, title="where the time went", title_justify="left", title_style="bold")
    table.add_column("stage")
    for name in ("seconds", "share", "done", "a second"):
        table.add_column(name, justify="right")

    def add(name: str, seconds: float) -> None:
        share = f"{100 * seconds / total_s:.0f} %" if total_s else ""
        count = profile.counts[name]
        done, rate = (f"{count}", f"{count / seconds:.1f}") if count and seconds else ("", "")
        table.add_row(name, f"{seconds:.2f}", share, done, rate)

    for name, seconds in profile.seconds.items():
        add(name, seconds)
    add("starting, and the rest", max(0.0, total_s - sum(profile.seconds.values())))
    table.add_section()
    table.add_row("in all", f"{total_s:.2f}")
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the decoding processes, which have ended
        table.add_row("decoding, beside it (processor time)", f"{usage.ru_utime + usage.ru_stime:.2f}")
    return table
