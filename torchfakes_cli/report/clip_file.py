"""Where an annotated clip goes: what it may be called, and what it may replace."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.report.files import check_folder, first_line, is_special

#: Written into every annotated clip; also how an earlier one is recognised.
COMMENT = "Annotated by torchfakes. A low score is no proof of authenticity."

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}

#: The comment lies among the last bytes of the index (ISO/IEC 14496-12, ``moov``), which is in front.
_LOOKED_AT_BYTES = 64 << 10


def container_of(path: str | PathLike[str]) -> str:
    """The format of an annotated clip of this name: ``mp4`` or ``mov``.

    Raises:
        UsageError: it is called like something else.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _CONTAINERS:
        raise UsageError("an annotated clip is an MP4 or MOV file", path=path, advice="Give it a name such as out.mp4.")
    return _CONTAINERS[suffix]


def check_clip_target(path: str | PathLike[str], source: str | PathLike[str], *, force: bool = False) -> None:
    """Finds out before the work whether an annotated clip can be written.

    An earlier one is replaced, being the same thing made again; any other file only with ``force``, and the source
    never.

    Raises:
        UsageError: it is called like something else than a clip, or is the source itself.
        OutputError: its folder can't be written, or something else is in its place.
    """
    container_of(path)
    target = Path(path)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise UsageError("is the clip itself", path=path, advice="Choose another name for the annotated one.")
    if is_special(target):
        raise OutputError("is no regular file", path=path, advice="Choose another name.")
    there = first_line(target)  # also tells what can't be read
    if there is not None and not force and not _is_annotated(target):
        raise OutputError(
            "exists and was not annotated by torchfakes",
            path=path,
            advice="Choose another name, or replace it with --force.",
        )
    check_folder(Path(os.path.realpath(target)), advice="Choose another place for the annotated clip.")


def _is_annotated(path: Path) -> bool:
    """Whether a file bears the comment where an annotated clip has it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start + 8 <= size:
            file.seek(start)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if head[4:8] == b"moov":
                end = min(start + length, size)
                file.seek(max(start, end - _LOOKED_AT_BYTES))
                return COMMENT.encode() in file.read(min(length, _LOOKED_AT_BYTES))
            if length < 8:
                return False
            start += length
    return False
