"""How every command reads its arguments and shows its help: old option names, examples, no Python types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
import typer.core

#: Old option names by command, accepted with a note until the next release.
RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "scan": {"--copy-limit": "--max-download-size"},
    "prepare": {"--out": "--output"},
    "train": {
        "--batch": "--batch-size",
        "--from": "--weights",
        "--learning-rate": "--lr",
        "--out": "--output",
        "--track": "--logger",
        "--warm-up": "--warmup",
    },
    "evaluate": {"--false-alarms": "--target-fpr", "--missed-fakes": "--target-fnr", "--out": "--output"},
    "serve": {"--keep": "--result-ttl"},
    "demo": {"--max-mb": "--max-size"},
}


class Command(typer.core.TyperCommand):
    """A Typer command that accepts renamed options and shows no Python types in its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, without the types that say nothing: of flags, and of arguments."""
        parameters: list[Any] = super().get_params(ctx)
        for parameter in parameters:
            if isinstance(parameter, typer.core.TyperArgument):
                parameter.display_type_rich = _no_type  # type: ignore[method-assign]
            elif getattr(parameter, "is_flag", False) and parameter.metavar is None:
                parameter.metavar = ""
        return parameters

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace old option names, with a note on stderr, and parse."""
        renamed = RENAMED_OPTIONS.get(self.name or "", {})
        for place, argument in enumerate(args):
            if argument == "--":
                break
            old, equals, value = argument.partition("=")
            if old in renamed:
                typer.echo(f"Note: {old} is now called {renamed[old]}.", err=True)
                args[place] = f"{renamed[old]}{equals}{value}"
        return super().parse_args(ctx, args)


def _no_type(ctx: Any) -> None:
    return None


def add_command(group: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Add a command whose help is the docstring of its function.

    The lines below ``Examples:`` at the end of the docstring become the examples below the options.
    """
    text, _, examples = (inspect.getdoc(function) or "").partition("Examples:\n")
    # Typer keeps the line breaks of a docstring, which fit an editor's width and not the terminal's.
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    group.command(
        name,
        cls=Command,
        help="\n\n".join(paragraphs),
        epilog="\n\n".join(["Examples:", *lines]) if lines else None,
    )(function)
