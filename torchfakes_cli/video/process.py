"""The process that decodes, seen from the one that starts and ends it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import weakref
from contextlib import suppress
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.video.channel import PictureMemory, WorkerSettings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

logger = logging.getLogger(__name__)

#: A process that isn't ready after so many seconds never will be.
_START_S = 60.0

#: Seconds that a process which is told to stop has for the frame it is at; a new one is ready as soon.
STOP_S = 1.0

# Nothing but this program is imported: not the user's main module, as multiprocessing would, nor a file that lies in
# the current folder and is named like a library.
_PROGRAM = "import json, sys; sys.path[:], *rest = json.loads(sys.argv[1]); "
_PROGRAM += "from torchfakes_cli.video.worker import main; main(*rest)"

# A process that decodes needs no threads for linear algebra. Each further arena of the allocator takes 64 MiB or more
# of address space, or none where it doesn't fit: a limit near what a file needs would hold on one run but not the next.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class DecodingProcess:
    """A process that decodes, from this side.

    Attributes:
        memory: through which pictures come.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.memory = PictureMemory()
        self._connection, theirs = multiprocessing.Pipe()
        try:
            self._process = _start(theirs, self.memory, settings)
        except (OSError, ValueError) as error:
            self._connection.close()
            raise _unstartable(getattr(error, "strerror", None) or str(error)) from error
        finally:
            theirs.close()
            self.memory.release_handle()
        self._ready = False
        self.end = weakref.finalize(self, _end, self._process, self._connection)

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return self.end.alive and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Waits for its first message.

        Raises:
            TorchfakesError: it has ended before.
        """
        if self._ready:
            return
        with suppress(EOFError, OSError):
            self._ready = self.receive(_START_S) is not None
        if not self._ready:
            self.end()
            raise _unstartable(f"exit code {self._process.returncode}")

    def send(self, message: object) -> None:
        """Sends a message; raises OSError where the process has ended."""
        self._connection.send(message)

    def receive(self, timeout_s: float) -> object | None:
        """The next message, None if there is none in time; raises EOFError or OSError where the process has ended."""
        return self._connection.recv() if self._connection.poll(timeout_s) else None

    def end_described(self) -> str:
        """Ends the process, and tells in words how it had ended by itself."""
        try:
            code = self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            code = 0
        self.end()
        if code >= 0:
            return f"its decoder ended unexpectedly (exit code {code})"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if name == "SIGKILL":
            return "its decoder was killed (SIGKILL), as happens when memory runs out"
        return f"its decoder crashed ({name})"


def _start(theirs: Connection[Any, Any], memory: PictureMemory, limits: WorkerSettings) -> subprocess.Popen[bytes]:
    handle = theirs.fileno()
    settings: dict[str, Any] = {}
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        settings["startupinfo"] = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
    else:
        settings["pass_fds"] = (handle, memory.handle)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps([sys.path, handle, memory.handle, *astuple(limits)])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
        **settings,
    )


def _end(process: subprocess.Popen[bytes], connection: Connection[Any, Any]) -> None:
    connection.close()
    process.kill()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        logger.debug("process %d doesn't end", process.pid)  # it hangs in the kernel, on a lost disk for example


def _unstartable(reason: str) -> TorchfakesError:
    return TorchfakesError(f"the decoding process can't be started: {reason}", advice="Run it with --debug to see why.")
