"""Temporary directory that is removed with its process, or by the next one after a crash."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import try_lock

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
        lock = try_lock(folder / _LOCK)
        if lock is not None:
            if folder.exists():
                return folder, lock
            lock.release()  # another process has just taken it for an abandoned one


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
            lock = try_lock(folder / _LOCK) if (folder / _LOCK).is_file() else None
            if lock is None:
                continue
            try:
                _empty(folder)
                if os.name != "nt":  # which removes no file that is open
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                lock.release()
            shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            logger.debug("%s stays: %s", folder, error)
