"""Exit codes, error lines on stderr, and the handling of interrupts."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import typer

from torchfakes_cli.errors import TorchfakesError, UsageError

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen

logger = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """Exit codes of all commands."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    FAKE_FOUND = 4
    INTERRUPTED = 130


@contextmanager
def guarded(*, debug: bool, verbose: bool = False, quiet: bool = False) -> Iterator[Screen]:
    """Turn the end of a command into an exit code and an error into one line on stderr.

    Args:
        debug: show the whole log and tracebacks as well.
        verbose: show the log without details for developers.
        quiet: print results and errors alone.

    Yields:
        The screen of the command.

    Raises:
        typer.Exit: with the code.
    """
    from torchfakes_cli.cli.console import Screen

    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(not debug)  # a library's warning is for developers
    if debug or verbose:
        logging.getLogger("torchfakes_cli").setLevel(logging.DEBUG if debug else logging.INFO)
    if debug:
        sys.excepthook = sys.__excepthook__
    screen = Screen(quiet=quiet)
    try:
        try:
            Path.cwd()
        except OSError:
            raise TorchfakesError("the current folder was removed", advice="Go to another one with cd.") from None
        yield screen
    except TorchfakesError as error:
        logger.debug("it happened here:", exc_info=True)
        for line in [*getattr(error, "__notes__", ()), str(error)]:
            screen.error(line)
        raise typer.Exit(ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.FAILED) from None
    except KeyboardInterrupt:
        screen.error("interrupted; what was written until now is kept")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def install_handlers() -> None:
    """Make SIGTERM end a command as Ctrl-C does, and show an unexpected error as one line instead of a traceback."""
    sys.excepthook = _show_unexpected
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal can't encode becomes a question mark instead of an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_unexpected(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    from torchfakes_cli.cli.console import Screen

    reason = " ".join(str(error).split()) or "no message"
    Screen().error(f"unexpected {kind.__name__}: {reason}. Run it again with --debug and report what it shows.")
