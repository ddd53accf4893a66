"""The command line: one file a command, Rich in ``console``, exit codes in ``exit_codes``.

Nothing heavy is imported before a command runs, so that help and completion stay instant.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from contextlib import suppress
from typing import Annotated

import typer

from torchfakes_cli.cli.command import add_command
from torchfakes_cli.cli.demo import demo_command
from torchfakes_cli.cli.doctor import doctor_command
from torchfakes_cli.cli.evaluate import evaluate_command
from torchfakes_cli.cli.exit_codes import ExitCode, install_handlers
from torchfakes_cli.cli.explain import explain_command
from torchfakes_cli.cli.models import MODELS_COMMANDS
from torchfakes_cli.cli.prepare import prepare_command
from torchfakes_cli.cli.scan import scan_command
from torchfakes_cli.cli.serve import serve_command
from torchfakes_cli.cli.train import train_command
from torchfakes_cli.version import __version__

app = typer.Typer(
    name="torchfakes",
    help="Find synthetic faces in video, on your own machine.",
    epilog="A low score is no proof of authenticity. Exit codes: 0 done, 1 failed, 2 usage, 3 some files of a batch "
    "failed, 4 fake found (with --fail-on-fake), 130 interrupted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"torchfakes {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


add_command(app, "scan", scan_command)
add_command(app, "explain", explain_command)
add_command(app, "prepare", prepare_command)
add_command(app, "train", train_command)
add_command(app, "evaluate", evaluate_command)
add_command(app, "demo", demo_command)
add_command(app, "serve", serve_command)
add_command(app, "doctor", doctor_command)

_models = typer.Typer(help="List, inspect, check, fetch, import and export detectors.", no_args_is_help=True)
for _name, _command in MODELS_COMMANDS.items():
    add_command(_models, _name, _command)
app.add_typer(_models, name="models")


#: Columns of a terminal below which help has no boxes.
_NARROW = 70


def main() -> None:
    """Run the command line and exit with its code."""
    install_handlers()
    # Importing torch creates half a million lasting objects; garbage collection took a tenth of the import's time.
    gc.set_threshold(100_000, 20, 100)
    command = next(iter(sys.argv[1:]), None)
    set_up_runtime(command)
    if not (sys.stdout.isatty() and sys.stderr.isatty()) or shutil.get_terminal_size().columns < _NARROW:
        app.rich_markup_mode = _models.rich_markup_mode = None  # help and usage errors without boxes
    try:
        # The group itself, not the Typer object: calling that would replace the handler of unexpected errors.
        typer.main.get_command(app)(prog_name="torchfakes")
    except SystemExit as ending:
        # A scan has closed and flushed what it opened.
        scanned = command in ("scan", "explain") and "torch" in sys.modules
        if isinstance(ending.code, int) and (ending.code == ExitCode.INTERRUPTED or scanned):
            _leave_at_once(ending.code)
        raise


#: How threads wait for one another, in the words of GNU's and other OpenMP libraries.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def runtime_settings(command: str | None) -> dict[str, str]:
    """Return the environment variables of PyTorch's libraries that suit a command; PyTorch reads them at its import."""
    if command == "train":
        # An update on the CPU is some thousand short tasks with a barrier after each. On two cores an update took a
        # quarter longer if threads slept at barriers, and ten times as long if they spun for milliseconds, the default,
        # while another program needed the cores. This is a tenth of a millisecond. The small cache below costs 10 %.
        return {"GOMP_SPINCOUNT": "10000"}
    return {
        # Torch's threads otherwise spin while they wait; where decoding or another program needs the same cores, a
        # scan then takes many times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
        # oneDNN prepares each layer for each size of its input and remembers up to 1024 of them, which adds up to
        # hundreds of MiB over videos of many sizes. Those of the last few videos are enough. A training has but one
        # size, and more kinds of work than this in each update.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        "LRU_CACHE_CAPACITY": "128",
    }


def set_up_runtime(command: str | None) -> None:
    """Set the environment variables that suit a command where the user has set nothing."""
    waiting_set = any(variable in os.environ for variable in _WAITING)
    for variable, value in runtime_settings(command).items():
        if not (waiting_set and variable in _WAITING):
            os.environ.setdefault(variable, value)


def _leave_at_once(code: int) -> None:
    """End this process without the orderly shutdown of its libraries, which can take seconds."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
