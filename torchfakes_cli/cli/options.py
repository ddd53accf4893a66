"""Declaration, completion and parsing of options, those shared by commands, and configurations made of their values.

Nothing heavy is imported, so that help and completion stay instant.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TypeVar

import typer

from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.scan.config import ScanConfig, VerdictConfig
from torchfakes_cli.video.options import SamplingConfig

#: Headings of the help.
FILES = "Which files"
FRAMES = "Which frames"
JUDGING = "Faces and verdict"
LIMITS = "Limits"
OUTPUT = "Output"

#: Defaults of the options below.
DEFAULT_SAMPLING = SamplingConfig()
DEFAULT_FACES = FaceConfig()
DEFAULT_SCAN = ScanConfig()

#: What ``evaluate --robustness`` takes, as ``training.evaluate.perturb`` names it; importing that needs OpenCV.
DAMAGES = ("h264", "jpeg", "blur", "noise", "resize", "blocks", "saturation", "contrast")

#: Formats of what a scan prints.
Format = Literal["text", "json", "tsv"]

_Config = TypeVar("_Config")

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")
#: Byte order marks of lists of paths, as Windows writes them.
_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def option(
    panel: str | None, metavar: str | None, text: str, *names: str, default: str | bool = True, **settings: Any
) -> Any:
    """Declare an option in a panel of the help; ``default`` describes a default of None."""
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, help=text, show_default=default, **settings)


def configured(config: type[_Config], context: typer.Context, **others: Any) -> _Config:
    """Make a configuration from the options that are named like its fields; None leaves a field's default."""
    values = {field.name: context.params.get(field.name) for field in fields(config)}  # type: ignore[arg-type]
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return config(**{name: value for name, value in given.items() if value is not None} | others)


def one_of(*names: str) -> Callable[[str], list[str]]:
    """Return a completion of names; where none begins with what was typed, the shell offers files."""
    return lambda incomplete: _beginning(names, incomplete)


def detectors(incomplete: str) -> list[str]:
    """Complete names of installed detectors."""
    from torchfakes_cli.detector.registry import SHIPPED_NAME, installed

    return _beginning([SHIPPED_NAME, *installed()], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def parse_time(text: str) -> float:
    """Parse a time in seconds from ``90``, ``1:30`` or ``0:01:30.5``.

    Raises:
        typer.BadParameter: the text is not a time.
    """
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no time: write seconds (90), 1:30 or 0:01:30.5.")
    hours, minutes, seconds = match.groups()
    if (hours and int(minutes) >= 60) or (minutes and float(seconds) >= 60):
        raise typer.BadParameter(f"{text!r} is no time: minutes and seconds after a colon go up to 59.")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)


def parse_rate(text: str) -> Fraction:
    """Parse an exact rate in frames a second from ``2``, ``0.5`` or ``30000/1001``.

    Raises:
        typer.BadParameter: the text is not a rate.
    """
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is no rate: write 2, 0.5 or 30000/1001.") from None


def parse_numbers(name: str, text: str, example: str) -> tuple[int, ...]:
    """Parse the value of an option that takes numbers such as ``1,3,5``.

    Raises:
        UsageError: it has something else.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise UsageError(f"{name} takes numbers such as {example}, not {text!r}") from None


def paths_from(listing: BinaryIO) -> list[str]:
    """Read a list of paths: separated by NUL if it has any (``find -print0``), else one a line.

    Names between NULs are taken byte for byte; lines are UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        UsageError: the list is in another encoding.
    """
    content = listing.read()
    marked = next((encoding for mark, encoding in _ENCODINGS.items() if content.startswith(mark)), None)
    parts = content.split(b"\0")
    if marked is None and len(parts) > 1 and not _looks_like_utf16(parts):
        return [os.fsdecode(part) for part in parts if part]
    try:
        lines = content.decode(marked or "utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        lines = ["\0"]
    if any("\0" in line for line in lines):
        raise UsageError(
            "the list of paths is not UTF-8",
            advice="Save it as UTF-8, or separate the paths by NUL, as find -print0 does.",
        )
    return [line for line in lines if line.strip()]


def _looks_like_utf16(parts: list[bytes]) -> bool:
    """True if most parts are single characters, among them separators: text in UTF-16 without a byte order mark."""
    single = [part for part in parts if len(part) == 1]
    return len(parts) > 2 and 2 * len(single) > len(parts) and not {b"/", b"\\", b".", b"\n"}.isdisjoint(single)


def command_line() -> str:
    """Return the command as it was given, quoted for a shell."""
    words = ["torchfakes", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def refuse_urls(paths: list[str]) -> None:
    """Refuse URLs, since nothing is downloaded.

    Raises:
        UsageError: one of the paths is a URL.
    """
    for path in paths:
        if _URL.match(path) and not Path(path).exists():
            raise UsageError("URLs are not opened", path=path, advice="Download the video and scan the file.")


Fps = Annotated[
    Fraction | None,
    option(FRAMES, "RATE", "Sample this many frames a second, such as 2, 0.5 or 30000/1001.", parser=parse_rate),
]
Frames = Annotated[
    int | None,
    option(
        FRAMES,
        "N",
        "Sample this many frames, spread evenly.",
        default=f"{DEFAULT_SAMPLING.frames}, and one a second in longer clips",
    ),
]
Start = Annotated[
    float | None,
    option(
        FRAMES,
        "TIME",
        "Start at this time: seconds, 1:30 or 0:01:30.5.",
        "--start",
        default="the beginning",
        parser=parse_time,
    ),
]
End = Annotated[
    float | None, option(FRAMES, "TIME", "Stop at this time.", "--end", default="the end", parser=parse_time)
]
KeyFrames = Annotated[
    bool,
    option(
        FRAMES,
        None,
        "Use a key frame if one lies within a quarter of the gap between samples; this decodes far less.",
        "--key-frames/--no-key-frames",
    ),
]
MinFace = Annotated[int, option(JUDGING, "PIXELS", "Ignore faces smaller than this.")]
BlurThreshold = Annotated[
    float, option(JUDGING, "X", "Give no score to faces less sharp than this (variance of the Laplacian).")
]
Threshold = Annotated[
    float | None,
    option(
        JUDGING,
        "P",
        "Call a video fake from this p_fake on and real below, with nothing between.",
        default="the model's two thresholds",
    ),
]
Model = Annotated[
    str | None,
    option(
        JUDGING,
        "FILE",
        "Use this detector, a .safetensors checkpoint.",
        default="the one that ships",
        autocompletion=detectors,
    ),
]
Device = Annotated[
    str,
    option(
        JUDGING,
        "NAME",
        "Compute on this device: auto, cpu, cuda or cuda:N.",
        autocompletion=one_of("auto", "cpu", "cuda"),
    ),
]
Timeout = Annotated[
    float,
    option(LIMITS, "SECONDS", "Give up on a file when its decoding makes no progress for this long.", "--timeout"),
]
Hwaccel = Annotated[
    str | None,
    option(
        LIMITS,
        "NAME",
        "Decode on this device, such as cuda, where possible; 'torchfakes doctor' lists the "
        "devices. The memory limit does not apply then.",
        default="software",
    ),
]
MemoryLimit = Annotated[
    int, option(LIMITS, "MIB", "Give up on a file when its decoding needs more memory (on Linux).", "--memory-limit")
]
Debug = Annotated[bool, option(OUTPUT, None, "Show the log, and tracebacks of errors.", "--debug")]
Json = Annotated[bool, option(None, None, "Print one JSON document.", "--json")]


def scan_config(context: typer.Context, **others: Any) -> ScanConfig:
    """Make the configuration of a scan from the options above.

    Raises:
        UsageError: a value is out of range, or values contradict each other.
    """
    threshold = context.params["threshold"]
    return configured(
        ScanConfig,
        context,
        sampling=configured(SamplingConfig, context, frames_fixed=context.params["frames"] is not None),
        faces=configured(FaceConfig, context),
        verdict=VerdictConfig(fake_above=threshold, real_below=threshold),
        **others,
    )
