"""A private folder for clips on their way through the scanner. Nothing of it outlives its server for long."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError
from torchfakes_cli.report.lock import try_lock

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger(__name__)

_PREFIX = "torchfakes-serve-"
_LOCK = "lock"


class Spool:
    """A folder that only its owner can enter; a context manager that removes it, and what a killed server left.

    A living server holds a lock in its folder, which goes away with its process, however that ends.

    Attributes:
        folder: for the clips.

    Raises:
        OutputError: there is no place for temporary files.
    """

    def __init__(self) -> None:
        remove_abandoned()
        try:
            self.folder, self._lock = _locked_folder()
        except OSError as error:
            raise OutputError(
                f"no folder for clips can be made: {error.strerror or error}",
                path=tempfile.gettempdir(),
                advice="Set TMPDIR to a folder with room.",
            ) from error

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()  # Windows removes no file that is open
        shutil.rmtree(self.folder, ignore_errors=True)


def _locked_folder() -> tuple[Path, FileIO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = FileIO(folder / _LOCK, "w")
        if try_lock(lock):
            return folder, lock
        lock.close()  # another server has just taken it for an abandoned one


def _empty(folder: Path) -> None:
    """Removes the clips, while the lock is held."""
    for clip in folder.iterdir():
        if clip.name != _LOCK:
            clip.unlink(missing_ok=True)


def remove_abandoned() -> None:
    """Removes the folders of servers of this user that live no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
                continue
            with FileIO(folder / _LOCK, "r+") as lock:
                abandoned = try_lock(lock)
                if abandoned:
                    _empty(folder)
            if abandoned:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            logger.debug("%s stays: %s", folder, error)
