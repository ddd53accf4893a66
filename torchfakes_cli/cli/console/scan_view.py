"""Results of a scan as they come, lines on stderr before and after them, its profile, and the table of ``explain``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.screen import Screen, duration, numbers_table
from torchfakes_cli.cli.console.verdict_view import show_verdict, verdict_line
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.report.formatting import safe
from torchfakes_cli.report.heat_maps import Explanation

if TYPE_CHECKING:
    from torchfakes_cli.cli.options import Format
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.discovery import Finds
    from torchfakes_cli.scan.scanner import Profile

#: A region stands out if its share of the heat is at least this multiple of its share of the area.
_STANDS_OUT = 1.25


def report_earlier(batch: Batch, screen: Screen) -> None:
    """Print how many rows of earlier runs are kept and how many files are scanned again."""
    table = batch.table
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


def print_totals(batch: Batch, found: Finds, elapsed_s: float, places: Mapping[str, object], screen: Screen) -> None:
    """Print what a batch found and, by kind, the places where its outputs are."""
    tally, kept = batch.tally, len(batch.kept)
    words: dict[str, str] = {verdict: verdict.value for verdict in Verdict}
    words[Status.ERROR] = "error" if tally[Status.ERROR] == 1 else "errors"
    parts = [", ".join(f"{tally[kind]} {word}" for kind, word in words.items() if tally[kind])]
    parts += [f"{kept} of them kept from an earlier run"] if kept else []
    parts += [f"{found.skipped} other file{'' if found.skipped == 1 else 's'} skipped"] if found.skipped else []
    parts += [f"hidden files and folders skipped: {found.hidden}"] if found.hidden else []
    files = "1 file" if tally.total() == 1 else f"{tally.total()} files"
    screen.note(f"{files} in {duration(elapsed_s)}: {'; '.join(parts)}")
    for kind, place in places.items():
        if place:
            screen.note(f"{kind}: {place}")
    screen.note("A low score is no proof of authenticity.")


def print_one(batch: Batch, screen: Screen, form: Format, *, bar: bool) -> None:
    """Scan and print a single file; ``bar`` says that no output shows progress of its own."""
    with ExitStack() as stack:
        with screen.progress(Path(batch.pending[0]).name) as advance:
            results = batch.results(lambda _, done, wanted: advance(done, wanted))
            result = next(stack.enter_context(closing(results)))
        _print(result, screen, form, lambda: show_verdict(result, screen), one_line=False)
        with screen.progress("writing") if bar else nullcontext():
            next(results, None)  # raises the error of the scan or of writing


def print_each(batch: Batch, place: str, screen: Screen, form: Format) -> None:
    """Scan and print each file; errors go to stderr, in the same columns."""
    progress = screen.batch(len(batch.pending))
    width = max(map(len, batch.pending), default=0)
    with closing(batch.results(progress.advance)) as results:
        for path in batch.pending:
            with progress.waiting(place or path):
                result = next(results)
            line = verdict_line(result, width)
            _print(result, screen, form, partial(screen.result, line), one_line=True)
            if result.status is Status.ERROR:
                screen.trouble(line)
        next(results, None)  # raises an error of writing the last result


def _print(result: VideoResult, screen: Screen, form: Format, text: Callable[[], None], *, one_line: bool) -> None:
    """Print a result in the format of the output; ``text`` prints the one for people, who read errors on stderr."""
    if form == "json":
        from torchfakes_cli.report import result_to_json

        screen.line(result_to_json(result, one_line=one_line))
    elif form == "tsv":
        p_fake = "" if result.p_fake is None else f"{result.p_fake:.4f}"
        screen.line("\t".join([safe(result.path), result.verdict or result.status, p_fake]))
    elif not screen.quiet and result.status is Status.OK:
        text()
    for warning in result.warnings:
        screen.warning(f"{result.path}: {warning}")


def profile_table(profile: Profile, total_s: float) -> Table:
    """Make a table of seconds, share, and frames or faces a second by stage.

    Args:
        profile: of the scan.
        total_s: wall time since the command began; what no stage claims is its last row.
    """
    title = "where the time went"
    table = numbers_table(
        "stage",
        "seconds",
        "share",
        "done",
        "a second",
        box=box.SIMPLE,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    rest = max(0.0, total_s - sum(profile.seconds.values()))
    for name, seconds in {**profile.seconds, "starting, and the rest": rest}.items():
        share = f"{100 * seconds / total_s:.0f} %" if total_s else ""
        count = profile.counts[name]
        done = (f"{count}", f"{count / seconds:.1f}") if count and seconds else ()
        table.add_row(name, f"{seconds:.2f}", share, *done)
    table.add_section()
    table.add_row("in all", f"{total_s:.2f}")
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the decoding processes, which have ended
        table.add_row("decoding, beside it (processor time)", f"{usage.ru_utime + usage.ru_stime:.2f}")
    return table


def regions_table(explanation: Explanation) -> RenderableType:
    """Make a table of the heat maps' shares by facial region, averaged over people; there must be a face."""
    columns = ("region", "area", "for fake", "per area", "for real", "per area")
    table = numbers_table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for share in explanation.average:
        cells = [Text(f"{share.area:.0%}")]
        for heat in (share.fake, share.real):
            times = heat / share.area if heat is not None and share.area else None
            cells.append(Text("none", style="dim") if heat is None else Text(f"{heat:.0%}"))
            cells.append(Text() if times is None else Text(f"{times:.1f}", "bold" if times >= _STANDS_OUT else ""))
        table.add_row(share.region, *cells)
    count, people = len(explanation.faces), len({face.row.track for face in explanation.faces})
    of_whom = "one person" if people == 1 else f"{people} people"
    over = "" if count == 1 else f", averaged over {count} faces of {of_whom}"
    legend = (
        "per area: a region's share of the heat by its share of the area; 1.0 is no more than elsewhere.\n"
        "It shows where, not why, and coarsely: a map has few cells, and each sees much of the face."
    )
    return Group(f"Where what speaks for fake and for real lies{over}:", table, Text(legend, style="dim"))
