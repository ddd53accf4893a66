"""Results of a scan as they come, and lines on stderr: what an earlier run left, and a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torchfakes_cli.cli.console.screen import Screen, duration
from torchfakes_cli.cli.console.verdict_view import show_verdict, verdict_line
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.report.text import safe

if TYPE_CHECKING:
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.discovery import Finds

#: Values of --format.
Format = Literal["text", "json", "tsv"]


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


def _in_words(kind: str, count: int) -> str:
    return "errors" if kind == Status.ERROR.value and count != 1 else kind


def rows(count: int) -> str:
    """Return a number of rows in words."""
    return f"{count} row{'' if count == 1 else 's'}"


def summarize(batch: Batch, found: Finds, elapsed_s: float, places: Mapping[str, object], screen: Screen) -> None:
    """Print what a batch found and, by kind, the places where its outputs are."""
    tally, kept = batch.tally, len(batch.kept)
    kinds = [*(verdict.value for verdict in Verdict), Status.ERROR.value]
    parts = [", ".join(f"{tally[kind]} {_in_words(kind, tally[kind])}" for kind in kinds if tally[kind])]
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
