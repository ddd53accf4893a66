"""Files: checks of output paths, atomic writes, locks, checksums, temporary folders."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)

_LOCK = "lock"


def unwritable(path: Path, error: OSError, advice: str = "") -> OutputError:
    """Return the error for a failed write."""
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

    Permission bits don't suffice: there are read-only mounts, administrators and access lists.
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
    """Check in advance that files can be written without replacing files of other kinds.

    Args:
        paths: paths of the files.
        is_ours: returns True if a file with this first line is of the same kind and may be replaced.
        kind: kind of the files, such as "a timeline", for error messages.
        option: command-line option that sets their path, for error messages.
        force: allow any file to be replaced.
        make_folders: make missing folders.

    Raises:
        OutputError: a folder can't be written, or a path holds another file.
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
    """Read the first line of a file, without its line break; None if there is no file. Errors as in ``existing``."""
    start = existing(path, 4096, mode="rb", advice=advice)
    return None if start is None else start.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")


def existing(
    path: Path, size: int = -1, *, mode: str = "r+b", advice: str = "Choose another path with -o."
) -> bytes | None:
    """Read a file, or its first bytes; None if there is no file.

    Raises:
        OutputError: the path is a folder, or can't be opened in this mode. The default also requires that it can be
            written.
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


def write_atomically(path: Path, content: str | bytes, temporary: Path | None = None) -> None:
    """Write a file atomically: readers find the old or the new content, even after a crash.

    Args:
        path: path of the file; missing folders are made. Symbolic links are followed; devices and pipes are written
            to directly.
        content: complete content; text is encoded as UTF-8.
        temporary: path in the same folder to write first; None for a unique one.

    Raises:
        OutputError: the file can't be written; the old content remains.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    advice = "Check the folder's permissions and free space."
    if is_special(path):
        try:
            path.write_bytes(data)
        except OSError as error:
            raise unwritable(path, error, "Choose another path.") from error
        return
    target = Path(os.path.realpath(path))
    # Not tempfile, because its files are private; the new file gets the usual permissions.
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
        # It exists only after an error or an interruption.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def try_lock(path: Path) -> BaseFileLock | None:
    """Acquire the lock of a lock file, which the operating system releases when the process ends.

    Returns:
        Acquired lock, to be released; None if another process holds it. On a file system without locks it counts as
        acquired, so that results can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except NotImplementedError as error:  # the file system has no locks
        logger.debug("no lock on %s: %s", path, error)
    return lock


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_beside(path: Path) -> Path:
    """Return a unique path in the same folder, to be written and then renamed."""
    # The name is short, because the final name may have the maximum length, and hidden from scans of the folder.
    return path.parent / f".torchfakes-{secrets.token_hex(6)}.part"


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a private temporary folder for the block, and remove those of its prefix that killed processes left.

    A process holds a lock in its folder, which the system releases when the process ends in any way.

    Raises:
        OutputError: no temporary folder can be created.
    """
    remove_abandoned(prefix)
    try:
        folder, lock = Path(), None
        # Another process may remove the folder as abandoned before its lock is held.
        while lock is None or not folder.exists():
            folder = Path(tempfile.mkdtemp(prefix=prefix))
            lock = try_lock(folder / _LOCK)
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made: {error.strerror or error}",
            path=tempfile.gettempdir(),
            advice="Set TMPDIR to a folder with free space.",
        ) from error
    try:
        yield folder
    finally:
        lock.release()  # Windows can't remove open files
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(prefix: str) -> None:
    """Remove this user's temporary folders with the prefix whose processes have ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            status = folder.lstat()
            ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if not stat.S_ISDIR(status.st_mode) or not ours or not (folder / _LOCK).is_file():
                continue
            if (lock := try_lock(folder / _LOCK)) is not None:
                lock.release()  # Windows can't remove open files
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            logger.debug("%s stays: %s", folder, error)
