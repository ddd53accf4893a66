"""Temporary directory that is removed with its process, or by the next one after a crash."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError

if TYPE_CHECKING:
    from types import TracebackType

    from filelock import BaseFileLock

logger = logging.getLogger(__name__)

_LOCK = "lock"


class TemporaryFolder:
    """Context manager for a folder of this user alone; removes it, and those that killed processes left.

    A process holds a lock in its folder while it lives, however it ends.

    Args:
        prefix: of the folder's name; abandoned folders are found by it.

    Attributes:
        path: of the folder.

    Raises:
        OutputError: no temporary folder can be made.
    """

    def __init__(self, prefix: str) -> None:
        remove_abandoned(prefix)
        try:
            self.path, self._lock = _locked_folder(prefix)
        except OSError as error:
            raise OutputError(
                f"no folder for clips can be made: {error.strerror or error}",
                path=tempfile.gettempdir(),
                advice="Set TMPDIR to a folder with room.",
            ) from error

    def __enter__(self) -> TemporaryFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()  # Windows removes no file that is open
        shutil.rmtree(self.path, ignore_errors=True)


def _locked_folder(prefix: str) -> tuple[Path, BaseFileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        made = folder.stat()
        lock = _lock(folder)
        # Another process may just have taken it for an abandoned one.
        with suppress(TimeoutError, FileNotFoundError):
            lock.acquire()
            if os.path.samestat(made, folder.stat()):
                return folder, lock
        lock.release()


def _lock(folder: Path) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(folder / _LOCK, timeout=0, thread_local=False)


def _empty(folder: Path) -> None:
    """Remove the files in it, while the lock is held."""
    for clip in folder.iterdir():
        if clip.name != _LOCK:
            clip.unlink(missing_ok=True)


def remove_abandoned(prefix: str) -> None:
    """Remove the folders with this prefix whose processes, of this user, have ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
                continue
            if not (folder / _LOCK).is_file():
                continue
            with _lock(folder):
                _empty(folder)
                if os.name != "nt":  # which removes no file that is open
                    shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, NotImplementedError) as error:  # a timeout while its process lives
            logger.debug("%s stays: %s", folder, error)
