"""Options shared by commands, and parsers of times, rates and lists of paths."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from torchfakes_cli.cli.completion import detector_names, devices
from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.scan.config import ScanConfig, VerdictConfig
from torchfakes_cli.video.options import SamplingConfig

#: Headings of the help.
FILES_PANEL = "Which files"
FRAMES_PANEL = "Which frames"
JUDGING_PANEL = "Faces and verdict"
LIMITS_PANEL = "Limits"
OUTPUT_PANEL = "Output"

#: Defaults of the options below.
DEFAULT_SAMPLING = SamplingConfig()
DEFAULT_FACES = FaceConfig()
DEFAULT_SCAN = ScanConfig()

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")
#: Byte order marks of lists of paths, as Windows writes them.
_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


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


def parse_levels(text: str) -> tuple[int, ...]:
    """Parse integers from ``1,3,5``.

    Raises:
        UsageError: the text is not a list of integers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of levels", advice="Write numbers from 1 to 5, such as 1,3,5.") from None


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


FpsOption = Annotated[
    Fraction | None,
    typer.Option(
        parser=parse_rate,
        metavar="RATE",
        rich_help_panel=FRAMES_PANEL,
        help="Sample this many frames a second, such as 2, 0.5 or 30000/1001.",
        show_default=False,
    ),
]
FramesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=FRAMES_PANEL,
        help="Sample this many frames, spread evenly.",
        show_default=f"{DEFAULT_SAMPLING.frames}, and one a second in longer clips",
    ),
]
StartOption = Annotated[
    float | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        rich_help_panel=FRAMES_PANEL,
        help="Start at this time: seconds, 1:30 or 0:01:30.5.",
        show_default="the beginning",
    ),
]
EndOption = Annotated[
    float | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        rich_help_panel=FRAMES_PANEL,
        help="Stop at this time.",
        show_default="the end",
    ),
]
KeyFramesOption = Annotated[
    bool,
    typer.Option(
        "--key-frames/--no-key-frames",
        rich_help_panel=FRAMES_PANEL,
        help="Use a key frame if one lies within a quarter of the gap between samples; this decodes far less.",
    ),
]
MinFaceOption = Annotated[
    int, typer.Option(metavar="PIXELS", rich_help_panel=JUDGING_PANEL, help="Ignore faces smaller than this.")
]
BlurThresholdOption = Annotated[
    float,
    typer.Option(
        metavar="X",
        rich_help_panel=JUDGING_PANEL,
        help="Give no score to faces less sharp than this (variance of the Laplacian).",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        rich_help_panel=JUDGING_PANEL,
        help="Call a video fake from this p_fake on and real below, with nothing between.",
        show_default="the model's two thresholds",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=JUDGING_PANEL,
        help="Use this detector, a .safetensors checkpoint.",
        show_default="the one that ships",
        autocompletion=detector_names,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=JUDGING_PANEL,
        help="Compute on this device: auto, cpu, cuda or cuda:N.",
        autocompletion=devices,
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        rich_help_panel=LIMITS_PANEL,
        help="Give up on a file when its decoding makes no progress for this long.",
    ),
]
HwaccelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=LIMITS_PANEL,
        help="Decode on this device, such as cuda, where possible; 'torchfakes doctor' lists the devices. The memory "
        "limit does not apply then.",
        show_default="software",
    ),
]
MemoryLimitOption = Annotated[
    int,
    typer.Option(
        metavar="MIB",
        rich_help_panel=LIMITS_PANEL,
        help="Give up on a file when its decoding needs more memory (on Linux).",
    ),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", rich_help_panel=OUTPUT_PANEL, help="Show the log, and tracebacks of errors.")
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", rich_help_panel=OUTPUT_PANEL, help="Show a log on stderr: each file, and what is skipped."
    ),
]
RecursiveOption = Annotated[
    bool,
    typer.Option("--recursive/--no-recursive", rich_help_panel=FILES_PANEL, help="Search subfolders."),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=FILES_PANEL,
        help="Scan only the files of a folder whose names match ('a*.mp4', 'day1/*'). Repeatable.",
        show_default=False,
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=FILES_PANEL,
        help="Leave out files and folders whose names match. Repeatable.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        rich_help_panel=LIMITS_PANEL,
        help="Decode this many videos of a folder at once, in each process that scans.",
        show_default="half of the cores, from 2 to 8",
    ),
]
TableOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=OUTPUT_PANEL,
        help="Write a table with a row a file: CSV, or what the ending says: .jsonl, .sqlite (.db) or .parquet. "
        "An existing table grows: unchanged files are not scanned again, and rows of other files stay.",
        show_default=False,
    ),
]
TimelineOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=OUTPUT_PANEL,
        help="Write the timeline, a CSV row for each face in each frame, to this file. For one video.",
        show_default="NAME.timeline.csv in the current folder",
    ),
]
TimelinesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        rich_help_panel=OUTPUT_PANEL,
        help="Write the timeline of each video into this folder, in subfolders like those of the videos.",
        show_default=False,
    ),
]
AnnotateOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=OUTPUT_PANEL,
        help="Write the clip, an MP4 or MOV with its sound, with a box and the scores of each face drawn over it. "
        "For one video.",
        show_default=False,
    ),
]
FramesDirOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        rich_help_panel=OUTPUT_PANEL,
        help="Save representative whole frames of each person in this folder as JPEG, for a reverse image search.",
        show_default=False,
    ),
]
ReportOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        rich_help_panel=OUTPUT_PANEL,
        help="Write a report to open in a browser: a page for one video; for several a folder, with an index and a "
        "page each.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Literal["text", "json", "tsv"],
    typer.Option(
        rich_help_panel=OUTPUT_PANEL,
        help="Print text for people; JSON, timeline included: a document for one video, a line a file for several; "
        "or tab-separated lines: path, verdict, p_fake. With json and tsv a timeline is written only on request.",
    ),
]


def scan_config(
    *,
    fps: Fraction | None,
    frames: int | None,
    start: float | None,
    end: float | None,
    key_frames: bool,
    min_face: int,
    blur_threshold: float,
    threshold: float | None,
    device: str,
    timeout: float,
    memory_limit: int,
    hwaccel: str | None,
    jobs: int | None = None,
    copy_limit: int = DEFAULT_SCAN.copy_mb,
) -> ScanConfig:
    """Make the configuration from the values of the options above.

    Raises:
        UsageError: a value is out of range, or values contradict each other.
    """
    return ScanConfig(
        sampling=SamplingConfig(
            fps=fps,
            frames=DEFAULT_SAMPLING.frames if frames is None else frames,
            frames_fixed=frames is not None,
            start_s=DEFAULT_SAMPLING.start_s if start is None else start,
            end_s=end,
            key_frames=key_frames,
        ),
        faces=FaceConfig(min_face=min_face, blur_threshold=blur_threshold),
        verdict=VerdictConfig(fake_above=threshold, real_below=threshold),
        device=device,
        jobs=jobs,
        timeout_s=timeout,
        memory_mb=memory_limit,
        hwaccel=hwaccel,
        copy_mb=copy_limit,
    )
