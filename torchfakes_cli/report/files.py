"""Output files: early checks that a place can be written, and writes that leave a complete file or none."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO
from os import PathLike
from pathlib import Path

from torchfakes_cli.errors import OutputError, UsageError

#: Written into every annotated clip; also how an earlier one is recognised.
COMMENT = "Annotated by torchfakes. A low score is no proof of authenticity."

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}

#: The comment lies in so many last bytes of the index (``moov``, ISO/IEC 14496-12).
_COMMENT_BYTES = 64 << 10


def unwritable(path: Path, error: OSError, advice: str = "") -> OutputError:
    """The error to raise where the system refuses to write."""
    return OutputError(f"can't be written: {error.strerror or error}", path=path, advice=advice)


def is_special(path: Path) -> bool:
    """Whether the path is there and is neither file nor folder, such as ``/dev/null`` or a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def check_folder(path: Path, advice: str) -> None:
    """Make sure that a new file can be made beside ``path``, by making one.

    Permission bits don't tell (read-only mounts, administrators, access lists), so it is tried.

    Raises:
        OutputError: the folder is missing or can't be written.
    """
    trial = temporary_beside(path)
    try:
        with trial.open("x"):
            pass
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"the folder can't be written: {error.strerror or error}", path=path.parent, advice=advice
        ) from error


def check_targets(
    paths: Iterable[str | PathLike[str]],
    is_ours: Callable[[str], bool],
    *,
    kind: str,
    option: str,
    force: bool = False,
    make_folders: bool = False,
) -> None:
    """Check before a scan that files can be written, and that none of them would replace somebody's work.

    An earlier file of the same kind is replaced; any other only with ``force``.

    Args:
        paths: of the files.
        is_ours: whether a file that begins with this line is of that kind.
        kind: what they are, as "a timeline".
        option: by which the user chooses their place.
        force: let any file be replaced.
        make_folders: make the folders that are missing.

    Raises:
        OutputError: a folder can't be written, or a path is taken by something else.
    """
    elsewhere = f"Choose another place with {option}."
    checked: set[Path] = set()
    for target in map(Path, paths):
        if is_special(target):
            continue
        line = first_line(target, elsewhere)
        if line and not is_ours(line) and not force:
            raise OutputError(
                f"exists and is not {kind} of torchfakes",
                path=target,
                advice=f"Choose another path with {option}, or replace it with --force.",
            )
        if target.parent not in checked:
            if make_folders:
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    reason = error.strerror or error
                    raise OutputError(f"the folder can't be made: {reason}", path=target.parent) from error
            check_folder(target, advice=elsewhere)
            checked.add(target.parent)


def first_line(path: Path, advice: str = "Choose another path with -o.") -> str | None:
    """The first line of an existing file, without its end; None where there is no file. See ``existing``."""
    start = existing(path, 4096, mode="rb", advice=advice)
    return None if start is None else start.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")


def existing(
    path: Path, size: int = -1, *, mode: str = "r+b", advice: str = "Choose another path with -o."
) -> bytes | None:
    """The content of a file, or its first bytes; None where there is no file.

    Args:
        path: of the file.
        size: how many bytes to read; -1 for all.
        mode: how to open it; the default finds out whether it can be written as well.
        advice: what to do where it can't be opened.

    Raises:
        OutputError: the path is a folder, or something is there that can't be opened so.
    """
    try:
        with path.open(mode) as file:
            content: bytes = file.read(size)
            return content
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise OutputError("is a folder", path=path, advice="Name a file.") from error
    except OSError as error:
        raise unwritable(path, error, advice=advice) from error


def append(file: FileIO, data: bytes, path: Path) -> None:
    """Append to an open file, all or nothing, and flush it to the disk; a device or a pipe is only written to.

    Raises:
        OutputError: it can't be written; a full disk leaves no half line.
    """
    status = os.fstat(file.fileno())
    regular = stat.S_ISREG(status.st_mode)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        if regular:
            os.fsync(file.fileno())
    except OSError as error:
        if regular:
            with suppress(OSError):
                file.truncate(status.st_size)
        advice = "The rows before it are kept. Make room, and run the same command again to go on."
        raise unwritable(path, error, advice=advice) from error


def write_whole(path: Path, content: str | bytes, temporary: Path | None = None) -> None:
    """Replace a file in one step: a reader, or a crash, finds the old content or the new, never a part.

    Args:
        path: a link keeps pointing where it does.
        content: its whole content; text is written as UTF-8.
        temporary: where it is written first, in the folder of what ``path`` points to; an old one is replaced.
            None for a name that nobody else has.

    Raises:
        OutputError: it can't be written; what was there before still is.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_special(path):
        try:
            path.write_bytes(data)
        except OSError as error:
            raise unwritable(path, error) from error
        return
    target = Path(os.path.realpath(path))
    temporary = temporary or temporary_beside(target)
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def temporary_beside(path: Path) -> Path:
    """A path in the same folder that nobody else has, to be written and then renamed."""
    # Short, whatever the length of the final name, and hidden from a scan of the folder.
    return path.parent / f".torchfakes-{secrets.token_hex(6)}.part"


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
    """Check before the work that an annotated clip can be written.

    An earlier one is replaced; any other file only with ``force``, and the source
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
                file.seek(max(start, end - _COMMENT_BYTES))
                return COMMENT.encode() in file.read(min(length, _COMMENT_BYTES))
            if length < 8:
                return False
            start += length
    return False
