"""Output streams, progress bars and tables."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from torchfakes_cli.report.formatting import safe

#: Seconds between two notes on progress where there is no bar.
_TELL_EACH_S = 60.0
#: Smallest width of a terminal in columns for a box around a result.
_BOX_WIDTH = 70


class Screen:
    """Results on stdout, the rest on stderr.

    Args:
        quiet: leave out warnings, notes and progress; results and errors stay.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._out = _console(stderr=False)
        self._err = _console(stderr=True)

    @property
    def unicode(self) -> bool:
        """True if stdout can show block characters."""
        return self._out.encoding.lower().startswith("utf")

    @property
    def is_terminal(self) -> bool:
        """True if stdout is a terminal."""
        return self._out.is_terminal

    @property
    def shows_bar(self) -> bool:
        """True if progress is shown as a bar: on a terminal, unless it is to be quiet."""
        return self._err.is_terminal and not self._err.is_dumb_terminal and not self.quiet

    @property
    def boxed(self) -> bool:
        """True if results are shown in a box: on a terminal that is wide enough."""
        return self._out.is_terminal and self._out.width >= _BOX_WIDTH

    def result(self, content: RenderableType, *, wraps: bool | None = None) -> None:
        """Print a result; text is wrapped on a terminal only, other content always unless ``wraps`` says otherwise."""
        if wraps is None:
            wraps = self._out.is_terminal or not isinstance(content, Text)
        self._out.print(content, soft_wrap=not wraps)

    def trouble(self, content: RenderableType) -> None:
        """Print a result that is an error, on stderr."""
        self._err.print(content, soft_wrap=True)

    def aside(self, content: RenderableType) -> None:
        """Print additional output on stderr."""
        self._err.print(content)

    def line(self, text: str) -> None:
        """Print a line for programs on stdout, unformatted and flushed."""
        self._out.file.write(text + "\n")
        self._out.file.flush()

    def json(self, document: object) -> None:
        """Print a JSON document on stdout."""
        self.line(json.dumps(document, indent=2, ensure_ascii=False, default=str))

    def note(self, text: str) -> None:
        """Print a note on stderr."""
        if not self.quiet:
            self._err.print(Text(safe(text), style="dim"), soft_wrap=True)

    def warning(self, text: str) -> None:
        """Print a warning on stderr."""
        if not self.quiet:
            self._err.print(Text.assemble(("warning: ", "yellow"), safe(text)), soft_wrap=True)

    def error(self, text: str) -> None:
        """Print an error on stderr, in one line."""
        self._err.print(Text.assemble(("error: ", "bold red"), safe(text)), soft_wrap=True)

    @contextmanager
    def progress(self, description: str, unit: str = "") -> Iterator[Callable[[int, int | None], None]]:
        """Show a bar while the block runs, which is erased afterwards; without a terminal, a note each minute.

        Args:
            description: what is being done.
            unit: what is counted, for the notes.

        Yields:
            To be called with (done, wanted if known).
        """
        with self._bar(_Count(), TimeRemainingColumn()) as bar:
            task = bar.add_task(_shortened(safe(description), self._err.width - 50), total=None)
            told = time.monotonic()
            began: tuple[float, int] | None = None  # a continued run begins with what is done already

            def advance(done: int, wanted: int | None) -> None:
                nonlocal told, began
                bar.update(task, completed=done, total=wanted)
                now = time.monotonic()
                began = began or (now, done)
                if not self.shows_bar and wanted and began[1] < done < wanted and now - told >= _TELL_EACH_S:
                    left = duration((now - began[0]) / (done - began[1]) * (wanted - done))
                    self.note(f"{description}: {done} of {wanted}{unit and f' {unit}'}, about {left} left")
                    told = now

            yield advance

    def batch(self, files: int) -> BatchProgress:
        """Make a progress display for many files."""
        bar = self._bar(MofNCompleteColumn(), _FilesAMinute(), TimeRemainingColumn())
        return BatchProgress(self, bar, bar.add_task("", total=files), files, self._err.width - 62)

    def _bar(self, *columns: ProgressColumn) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            *columns,
            console=self._err,
            transient=True,
            disable=not self.shows_bar,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=600,  # files may take minutes
        )


class BatchProgress:
    """Progress of a batch: a bar on a terminal while waiting for a result, an occasional line elsewhere."""

    def __init__(self, screen: Screen, bar: Progress, task: TaskID, files: int, room: int) -> None:
        self._screen = screen
        self._bar = bar
        self._task = task
        self._files = files
        self._room = room
        self._done = 0
        self._parts: dict[str, float] = {}
        self._started = self._told = time.monotonic()

    def advance(self, path: str, done: int, wanted: int | None) -> None:
        """Update the frames done, and the frames wanted if known, of a file in progress."""
        self._parts[path] = min(done / wanted, 1) if wanted else 0
        self._show()

    @contextmanager
    def waiting(self, path: str) -> Iterator[None]:
        """Show the bar until the next result."""
        self._bar.update(self._task, description=_shortened(safe(path), self._room))
        self._show()
        with self._bar:
            yield
        self._done += 1
        self._parts.pop(path, None)
        self._show()
        now = time.monotonic()
        if self._bar.disable and now - self._told >= _TELL_EACH_S and self._done < self._files:
            self._told = now
            left = duration((now - self._started) / self._done * (self._files - self._done))
            self._screen.note(f"{self._done} of {self._files} files, about {left} left")

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._done + sum(self._parts.values()))


class _Count(MofNCompleteColumn):
    """Column with the steps done; empty while their number isn't known."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total is not None else Text()


class _FilesAMinute(ProgressColumn):
    """Column with the files a minute."""

    def render(self, task: Task) -> Text:
        return Text(f"{60 * task.speed:.1f}/min" if task.speed else "", style="progress.data.speed")


def numbers_table(*columns: str | Text, texts: int = 1, **style: Any) -> Table:
    """Make a table whose columns are aligned to the right, but for the first ``texts``."""
    table = Table(caption_justify="left", **style)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < texts else "right")
    return table


def texts_table(columns: Sequence[str], groups: Mapping[str, Iterable[Sequence[str | Text]]]) -> Table:
    """Make a table of untrusted texts, with the name of each group above its rows; one of no name has no heading."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for place, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=place == 0 and "" in groups)
    for group, rows in groups.items():
        if group:
            table.add_row(Text(group, style="bold"))
        for first, *others in rows:
            cells = [f"  {first}" if group else first, *others]
            table.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in cells))
    return table


def duration(seconds: float) -> str:
    """Format a duration for people.

    Example:
        >>> duration(4.24), duration(80), duration(7500)
        ('4.2 s', '1 min 20 s', '2 h 5 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _console(*, stderr: bool) -> Console:
    # With NO_COLOR Rich would still write bold and dim.
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, color_system=None if plain else "auto")


def _shortened(text: str, width: int) -> str:
    """Shorten a path from the left."""
    width = max(width, 12)
    return text if len(text) <= width else "…" + text[-(width - 1) :]
