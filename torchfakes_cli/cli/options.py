"""How a user writes times, rates and paths, turned into what the program calculates with."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import typer

from torchfakes_cli.errors import UsageError

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def parse_time(text: str) -> float:
    """Seconds from ``90``, ``1:30`` or ``0:01:30.5``.

    Raises:
        typer.BadParameter: it is no time.
    """
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no time: write seconds (90), 1:30 or 0:01:30.5.")
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)


def parse_rate(text: str) -> Fraction:
    """Frames a second from ``2``, ``0.5`` or ``30000/1001``, exactly.

    Raises:
        typer.BadParameter: it is no rate.
    """
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is no rate: write 2, 0.5 or 30000/1001.") from None


def parse_levels(text: str) -> tuple[int, ...]:
    """Whole numbers from ``1,3,5``.

    Raises:
        UsageError: they aren't.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of levels", advice="Write numbers from 1 to 5, such as 1,3,5.") from None


def paths_from(listing: BinaryIO) -> list[str]:
    """The paths of a list: separated by NUL where there is one (``find -print0``), and one a line otherwise."""
    content = listing.read()
    parts = content.split(b"\0") if b"\0" in content else content.replace(b"\r\n", b"\n").split(b"\n")
    return [os.fsdecode(part) for part in parts if part]


def refuse_urls(paths: list[str]) -> None:
    """Makes sure that nobody expects a download.

    Raises:
        UsageError: one of the paths is a URL.
    """
    for path in paths:
        if _URL.match(path) and not Path(path).exists():
            raise UsageError("URLs are not opened", path=path, advice="Download the video and scan the file.")
