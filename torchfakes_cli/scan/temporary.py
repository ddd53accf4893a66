"""Temporary folder that is removed with its process or, after a crash, by the next process."""

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
    """Private temporary folder; a context manager that removes it, and folders that killed processes left behind.

    A process holds a lock in its folder, which the system releases when the process ends in any way.

    Args:
        prefix: prefix of the folder's name, which also identifies abandoned folders.

    Attributes:
        path: path of the folder.

    Raises:
        OutputError: no temporary folder can be created.
    """

    def __init__(self, prefix: str) -> None:
        remove_abandoned(prefix)
        try:
            self.path, self._lock = _locked_folder(prefix)
        except OSError as error:
            raise OutputError(
                f"no folder for clips can be made: {error.strerror or error}",
                path=tempfile.gettempdir(),
                advice="Set TMPDIR to a folder with free space.",
            ) from error

    def __enter__(self) -> TemporaryFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()  # Windows can't remove open files
        shutil.rmtree(self.path, ignore_errors=True)


def _locked_folder(prefix: str) -> tuple[Path, BaseFileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = try_lock(folder / _LOCK)
        if lock is not None:
            if folder.exists():
                return folder, lock
            lock.release()  # another process removed it as abandoned before the lock was held


def _empty(folder: Path) -> None:
    """Remove all files in a folder except its lock."""
    for clip in folder.iterdir():
        if clip.name != _LOCK:
            clip.unlink(missing_ok=True)


def remove_abandoned(prefix: str) -> None:
    """Remove this user's folders with the prefix whose processes have ended."""
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
                if os.name != "nt":  # Windows can't remove the open lock
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                lock.release()
            shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            logger.debug("%s stays: %s", folder, error)
