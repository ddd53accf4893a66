"""The two streams of a terminal, and progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from rich.text import Text

from torchfakes_cli.report.summary import safe

#: Where there is no bar, a batch says this often how far it is.
_TELL_EACH_S = 60.0


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
        """Whether stdout can show block characters."""
        return self._out.encoding.lower().startswith("utf")

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads stdout as it comes."""
        return self._out.is_terminal

    def result(self, content: RenderableType) -> None:
        """Shows a result; text is not wrapped where stdout is no terminal."""
        wraps = self._out.is_terminal or not isinstance(content, Text)
        self._out.print(content, soft_wrap=not wraps)

    def trouble(self, content: RenderableType) -> None:
        """Shows a result that is an error, on stderr."""
        self._err.print(content, soft_wrap=True)

    def aside(self, content: RenderableType) -> None:
        """Shows what was asked for besides the results, on stderr."""
        self._err.print(content)

    def line(self, text: str) -> None:
        """Prints a line for programs on stdout, at once and as it stands."""
        self._out.file.write(text + "\n")
        self._out.file.flush()

    def note(self, text: str) -> None:
        """Tells something useful."""
        if not self.quiet:
            self._err.print(Text(safe(text), style="dim"), soft_wrap=True)

    def warning(self, text: str) -> None:
        """Tells something that a careful user should know."""
        if not self.quiet:
            self._err.print(Text.assemble(("warning: ", "yellow"), safe(text)), soft_wrap=True)

    def error(self, text: str) -> None:
        """Tells what went wrong, in one line."""
        self._err.print(Text.assemble(("error: ", "bold red"), safe(text)), soft_wrap=True)

    @contextmanager
    def progress(self, description: str) -> Iterator[Callable[[int, int | None], None]]:
        """Shows a bar while the block runs, on a terminal only; it leaves no trace.

        Args:
            description: what is being done.

        Yields:
            To be called with (done, wanted if known).
        """
        with self._bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(_shortened(safe(description), self._err.width - 50), total=None)
            yield lambda done, wanted: bar.update(task, completed=done, total=wanted)

    def batch(self, files: int) -> BatchProgress:
        """Progress over many files, still to begin."""
        bar = self._bar(MofNCompleteColumn(), _FilesAMinute(), TimeRemainingColumn())
        return BatchProgress(self, bar, bar.add_task("", total=files), files, self._err.width - 62)

    def _bar(self, *columns: ProgressColumn) -> Progress:
        shown = self._err.is_terminal and not self._err.is_dumb_terminal and not self.quiet
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            *columns,
            console=self._err,
            transient=True,
            disable=not shown,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=600,  # files may take minutes
        )


class BatchProgress:
    """How far a batch is: on a terminal a bar while a result is waited for, elsewhere a line every now and then.

    It is there only while a result is waited for, so that results can be printed between two files.
    """

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
        """So many frames are done, of so many if that is known, of one of the files under way."""
        self._parts[path] = min(done / wanted, 1) if wanted else 0
        self._show()

    @contextmanager
    def waiting(self, path: str) -> Iterator[None]:
        """Shows the bar while the result of a file is waited for, the next one in order, or of any at a place."""
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


class _FilesAMinute(ProgressColumn):
    """How many files a minute get done."""

    def render(self, task: Task) -> Text:
        return Text(f"{60 * task.speed:.1f}/min" if task.speed else "", style="progress.data.speed")


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(4.24), duration(80), duration(7500)
        ('4.2 s', '1 min 20 s', '2 h 5 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _console(*, stderr: bool) -> Console:
    # NO_COLOR leaves bold and dim to Rich; whoever sets it wants plain text.
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, color_system=None if plain else "auto")


def _shortened(text: str, width: int) -> str:
    """Keeps the end, where a path tells most."""
    width = max(width, 12)
    return text if len(text) <= width else "…" + text[-(width - 1) :]
