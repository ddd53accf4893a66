"""``torchfakes man``: manual pages, written from the commands themselves.

The pages are those of man(7): see groff_man(7) for its macros. The wheel holds them all (``hatch_build.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.version import __version__

_MANUAL = "torchfakes manual"
#: Newer versions of Typer write an argument's type after its name, which tells of Python alone: ``PATH <list[str]>``.
_TYPE = re.compile(r" <\S+>$")


def man_command(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="Such as scan, or models fetch.", show_default="the whole program"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Write all pages into this folder instead.", show_default="none"
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the log, and tracebacks of errors.")] = False,
) -> None:
    """Print the manual page of a command.

    To read one: torchfakes man scan | man -l -. Pages are written from the commands and say what -h says; where pip or
    pipx installed the program, they also lie in share/man.
    """
    with guarded(debug=debug):
        pages = man_pages(_root(context))
        if out is not None:
            if command:
                raise UsageError("--out writes the pages of all commands", advice="Leave the command out.")
            _write(pages, Path(out))
            typer.echo(f"{len(pages)} pages in {out}")
            return
        name = "-".join(["torchfakes", *(command or [])])
        if f"{name}.1" not in pages:
            raise UsageError(f"there is no command {' '.join(command or [])!r}", advice="See: torchfakes -h")
        typer.echo(pages[f"{name}.1"], nl=False)


def man_pages(root: TyperGroup) -> dict[str, str]:
    """The manual pages of all commands.

    Args:
        root: the program.

    Returns:
        Pages in roff by the names of their files, ``torchfakes.1`` first.
    """
    contexts = list(_contexts(root, None))
    return {f"{_page_name(context.command_path)}.1": "\n".join(_page(context)) + "\n" for context in contexts}


def _write(pages: dict[str, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            (folder / name).write_text(page, encoding="ascii", newline="\n")
    except OSError as error:
        raise OutputError(f"can't be written ({error.strerror or error})", path=folder) from error


def _root(context: typer.Context) -> TyperGroup:
    root = context.find_root().command
    assert isinstance(root, TyperGroup)
    return root


def _contexts(command: TyperCommand | TyperGroup, parent: typer.Context | None) -> Iterator[typer.Context]:
    """A command and those below it."""
    context = typer.Context(command, info_name=command.name, parent=parent, **command.context_settings)
    yield context
    for child in _children(context):
        yield from _contexts(child, context)


def _children(context: typer.Context) -> list[TyperCommand | TyperGroup]:
    group = context.command
    if not isinstance(group, TyperGroup):
        return []
    found = [group.get_command(context, name) for name in group.list_commands(context)]
    return [child for child in found if isinstance(child, TyperCommand | TyperGroup) and not child.hidden]


def _page(context: typer.Context) -> Iterator[str]:
    command = context.command
    first, *others = (command.help or "").split("\n\n")
    name = _page_name(context.command_path)
    yield f'.TH {_text(name.upper())} 1 "" "torchfakes {__version__}" "{_MANUAL}"'
    yield from (".SH NAME", rf"{_text(name)} \- {_text(first.rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {_text(context.command_path)}")
    yield _text(" ".join(command.collect_usage_pieces(context)))
    yield from (".SH DESCRIPTION", _text(first))
    for paragraph in others:
        yield from (".PP", _text(paragraph))
    if children := _children(context):
        yield ".SH COMMANDS"
        for child in children:
            yield from _entry(child.name or "", (child.help or "").split("\n\n")[0])
    yield from _parameters(context)
    if command.epilog:
        yield from (".SH NOTES", _text(command.epilog))
    yield from _see_also(context)


def _parameters(context: typer.Context) -> Iterator[str]:
    """Arguments and options under the headings of the help."""
    sections: dict[str, dict[str, list[tuple[str, str]]]] = {"ARGUMENTS": {}, "OPTIONS": {}}
    for parameter in context.command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            is_argument = parameter.param_type_name == "argument"
            names = _TYPE.sub("", record[0]) if is_argument else record[0]
            # Older versions of Typer write \[default: …] for Rich.
            entry = names, record[1].replace(r"\[", "[")
            panel = getattr(parameter, "rich_help_panel", None) or ""
            sections["ARGUMENTS" if is_argument else "OPTIONS"].setdefault(panel, []).append(entry)
    for section, panels in sections.items():
        if panels:
            yield f".SH {section}"
        for panel, entries in sorted(panels.items(), key=lambda item: item[0] != ""):
            if panel:
                yield f".SS {_text(panel)}"
            for names, text in entries:
                yield from _entry(names, text)


def _entry(names: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_text(names)}", _text(text))


def _see_also(context: typer.Context) -> Iterator[str]:
    near = [context.parent.command_path] if context.parent else []
    near += [f"{context.command_path} {child.name}" for child in _children(context)]
    if near:
        yield ".SH SEE ALSO"
        yield ",\n".join(rf"\fB{_text(name)}\fR(1)" for name in map(_page_name, near))


def _page_name(command_path: str) -> str:
    return command_path.replace(" ", "-")


def _text(text: str) -> str:
    """Text as roff shows it unchanged: one line, ASCII alone, with hyphens that can be copied."""
    plain = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(letter if letter.isascii() else rf"\[u{ord(letter):04X}]" for letter in plain)
    return rf"\&{escaped}" if escaped[:1] in (".", "'") else escaped
