"""Files: checks of output paths, atomic writes, locks, checksums."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)


def unwritable(path: Path, error: OSError, advice: str = "") -> OutputError:
    """Make the error for a failed write."""
    return OutputError(f"can't be written: {error.strerror or error}", path=path, advice=advice)


def is_special(path: Path) -> bool:
    """True if the path exists and is neither file nor folder, such as ``/dev/null`` or a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def check_folder(path: Path, advice: str) -> None:
    """Check that a file can be created beside ``path``, by creating one.

    Permission bits are not enough to know (read-only mounts, administrators, access lists).

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
    """Check before a scan that files can be written without replacing files of other kinds.

    An earlier file of the same kind is replaced; any other only with ``force``.

    Args:
        paths: of the files.
        is_ours: returns True if a file with this first line is of that kind.
        kind: of the files, such as "a timeline", for error messages.
        option: that sets their path, for error messages.
        force: allow any file to be replaced.
        make_folders: make missing folders.

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
    """Read the first line of a file, without its line break; None if there is no file. See ``existing``."""
    start = existing(path, 4096, mode="rb", advice=advice)
    return None if start is None else start.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")


def existing(
    path: Path, size: int = -1, *, mode: str = "r+b", advice: str = "Choose another path with -o."
) -> bytes | None:
    """Read a file, or its first bytes; None if there is no file.

    Args:
        path: of the file.
        size: how many bytes to read; -1 for all.
        mode: how to open it; the default also checks that it can be written.
        advice: for the error if it can't be opened.

    Raises:
        OutputError: the path is a folder, or can't be opened in this mode.
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
    """Append to an open file, all or nothing, and flush it to the disk; devices and pipes are only written to.

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


def write_atomically(path: Path, content: str | bytes, temporary: Path | None = None) -> None:
    """Write a file in one step: a reader, or a crash, finds the old content or the new, never a part.

    Args:
        path: of the file; missing folders are made. A symbolic link is followed, a device or a pipe written to.
        content: its whole content; text is written as UTF-8.
        temporary: path that is written first, in the folder of what ``path`` points to; an old file is replaced.
            None for a unique name.

    Raises:
        OutputError: the file can't be written; what was there before still is.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    advice = "Check the folder's permissions and free space."
    if is_special(path):
        try:
            path.write_bytes(data)
        except OSError as error:
            raise unwritable(path, error) from error
        return
    target = Path(os.path.realpath(path))
    # Not tempfile, whose files are private: the new file gets the permissions that any new file has.
    temporary = temporary or temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise unwritable(path, error, advice) from error
    finally:
        # Left by an error or an interruption.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def try_lock(path: Path) -> BaseFileLock | None:
    """Acquire the lock of a lock file, which the operating system drops when the process ends.

    A file system without locks counts as unlocked: better no lock than no results there.

    Returns:
        The lock, to be released; None where another process holds it.

    Raises:
        OSError: the lock file can't be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except NotImplementedError as error:
        logger.debug("no lock on %s: %s", path, error)
    return lock


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_beside(path: Path) -> Path:
    """Return a unique path in the same folder, to be written and then renamed."""
    # Short, whatever the length of the final name, and hidden from a scan of the folder.
    return path.parent / f".torchfakes-{secrets.token_hex(6)}.part"
