"""Lines about a batch on stderr: what an earlier run left, and a summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchfakes_cli.cli.console.screen import Screen, duration
from torchfakes_cli.records import Status, Verdict

if TYPE_CHECKING:
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.discovery import Finds


def report_earlier(batch: Batch, screen: Screen) -> None:
    """Print how many rows of earlier runs are kept and how many files are scanned again."""
    table = batch.earlier
    if table is None:
        return
    changed = "with another version of the file, the model, the device or the settings"
    for count, fate in (
        (len(batch.kept), "of an earlier run kept"),
        (table.retried, "with an error: scanned again"),
        (table.stale, f"{changed}: scanned again"),
        (table.others, "of other files stay"),
    ):
        if count:
            screen.note(f"{rows(count)} {fate}")


def rows(count: int) -> str:
    """Return a number of rows in words."""
    return f"{count} row{'' if count == 1 else 's'}"


def summarize(batch: Batch, found: Finds, elapsed_s: float, places: Mapping[str, object], screen: Screen) -> None:
    """Print what a batch found and, by kind, the places where its outputs are."""
    tally, kept = batch.tally, len(batch.kept)
    kinds = [*(verdict.value for verdict in Verdict), Status.ERROR.value]
    parts = [", ".join(f"{tally[kind]} {kind}" for kind in kinds if tally[kind])]
    parts += [f"{kept} of them kept from an earlier run"] if kept else []
    parts += [f"{found.skipped} other files skipped"] if found.skipped else []
    parts += [f"{found.hidden} hidden files and folders skipped"] if found.hidden else []
    files = "1 file" if tally.total() == 1 else f"{tally.total()} files"
    screen.note(f"{files} in {duration(elapsed_s)}: {'; '.join(parts)}")
    for kind, place in places.items():
        if place:
            screen.note(f"{kind}: {place}")
    screen.note("A low score is no proof of authenticity.")
