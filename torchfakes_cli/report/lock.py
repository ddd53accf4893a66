"""A lock that can't be left behind: the operating system holds it on an open file and drops it with the process."""

from __future__ import annotations

import logging
import sys
from io import FileIO

logger = logging.getLogger(__name__)

# Windows keeps others from reading what is locked, so the locked byte lies where no file of ours reaches.
_FAR_BYTE = 0x7FFFFF00


def try_lock(file: FileIO) -> bool:
    """Locks an open, writable file until it is closed, however its process ends.

    A file system that knows no locks counts as unlocked: better no lock than no results there.

    Returns:
        False where another process, or another opening of the file, holds the lock.
    """
    if sys.platform == "win32":
        import msvcrt

        place = file.tell()
        file.seek(_FAR_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(place)
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.debug("no lock on %s: %s", file.name, error)
    return True
