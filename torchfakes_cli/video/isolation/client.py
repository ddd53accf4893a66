"""Client of the decoding process: starts it, calls it, and translates its failures to exceptions."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Never, Self, TypeVar, cast

from torchfakes_cli import errors
from torchfakes_cli.errors import DecoderCrashError, DecodeTimeoutError, TooLargeError, TorchfakesError
from torchfakes_cli.facts import FileFacts
from torchfakes_cli.records import DecodeReport, Frame, VideoInfo
from torchfakes_cli.video.isolation.protocol import (
    SLOTS,
    Picture,
    PictureMemory,
    ProtocolError,
    decode,
    received,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from io import FileIO
    from os import PathLike

    from torchfakes_cli.video.options import SamplingConfig

    # Messages, and the error or None at the end.
    Messages = SimpleQueue[dict[str, Any] | ProtocolError | None]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Maximum seconds that a process takes to start.
_START_S = 60.0
#: Seconds that a process gets to finish its current frame when it is stopped; starting a new one takes as long.
_STOP_S = 1.0
#: Seconds between a blocked thread's checks.
_SLICE_S = 0.1
#: Maximum number of messages that wait to be used; the other process is blocked meanwhile.
_MOST_MESSAGES = 64
#: Minimum write speed of a disk in bytes per second.
_DISK_BYTES_PER_S = 5_000_000
#: Seconds that each frame of a file adds to its total time limit, as a backstop against files made to decode slowly: an
#: 8K frame takes about half of it on an old core.
FRAME_S = 0.5

# Only this package is imported: not the user's main module, as multiprocessing would, and no file in the current folder
# that has the name of a library.
_PROGRAM = "import json, sys; sys.path[:], *rest = json.loads(sys.argv[1]); "
_PROGRAM += "from torchfakes_cli.video.isolation.server import main; main(*rest)"

# Decoding needs no linear algebra threads. A further allocator arena takes at least 64 MiB of address space if it fits,
# so that a file close to the memory limit would pass on one run and fail on the next.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}

_ERRORS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TorchfakesError)
}


@dataclass(slots=True)
class Deadline:
    """Limits in seconds on the time without a sign of progress, and in all; only waiting for the process counts."""

    silence_s: float
    total_s: float = math.inf
    silent_s: float = 0.0
    spent_s: float = 0.0

    def spend(self, seconds: float, *, progress: bool) -> None:
        """Add waited seconds; progress restarts the limit on silence."""
        self.silent_s = 0.0 if progress else self.silent_s + seconds
        self.spent_s += seconds

    @property
    def expired(self) -> str:
        """Timeout reason, or an empty string while time remains."""
        if self.silent_s >= self.silence_s:
            return f"its decoder made no progress for {self.silence_s:g} s"
        return f"decoding it took longer than {self.total_s:.0f} s" if self.spent_s >= self.total_s else ""


class _Process:
    """A decoding process, which inherits further file descriptors if any are given.

    Attributes:
        settings: memory limit and hardware device.
        memory: memory that it writes pictures to.
        end: function that ends the process.
    """

    def __init__(self, memory_mb: int, hwaccel: str | None, inherited: tuple[int, ...] = ()) -> None:
        self.settings = memory_mb, hwaccel
        self.memory = PictureMemory()
        self._calls = 0
        self._enforced: tuple[str, ...] | None = None
        handle = self.memory.handle
        try:
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps([sys.path, handle, memory_mb, hwaccel])],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                pass_fds=() if isinstance(handle, str) else (handle, *inherited),
            )
        except (OSError, ValueError) as error:
            raise _unstartable(getattr(error, "strerror", None) or str(error)) from error
        finally:
            if isinstance(handle, int):
                os.close(handle)  # inherited by now; the memory remains mapped
        self._stdin = cast("FileIO", process.stdin)
        self._messages: Messages = SimpleQueue()
        Thread(target=_receive, args=(process, self._messages), daemon=True).start()
        self.end = weakref.finalize(self, _end, process)

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self.end.alive and self._process.poll() is None

    def enforced(self) -> tuple[str, ...]:
        """Wait until the process is ready and return the restrictions that it verified for itself."""
        if self._enforced is None:
            try:
                self._enforced = self.wait(0, tuple[str, ...], "", Deadline(_START_S))
            except TorchfakesError as error:
                raise _unstartable(error.cause) from error
        return self._enforced

    def ask(self, path: str, kind: type[_T], deadline: Deadline, method: str, /, **arguments: Any) -> _T:
        """Send a call about a file and wait for its result."""
        return self.wait(self.call(path, method, **arguments), kind, path, deadline)

    def call(self, path: str, method: str, /, **arguments: Any) -> int:
        """Send a call about a file and return its number."""
        self.enforced()
        self._calls += 1
        try:
            send(self._stdin, {"call": self._calls, "method": method, "arguments": arguments})
        except (OSError, ValueError):  # the pipe is broken, or closed by another thread
            self._crashed(path)
        return self._calls

    def wait(self, call: int, kind: type[_T], path: str, deadline: Deadline) -> _T:
        """Wait for the result of a call and raise reported errors; answers to earlier calls are dropped."""
        deadline.spend(0.0, progress=True)
        slice_s = min(_SLICE_S, deadline.silence_s)
        while True:
            started = time.monotonic()
            message: dict[str, Any] | ProtocolError | None = {}
            with suppress(Empty):
                message = self._messages.get(timeout=slice_s)
            # A much longer wait means that this process was suspended.
            deadline.spend(min(time.monotonic() - started, 2 * slice_s), progress=bool(message))
            if message is None:
                self._crashed(path)
            try:
                if isinstance(message, ProtocolError):
                    raise message
                if message.get("call") == call and "error" in message:
                    name, cause, advice = decode(tuple[str, str, str], message["error"])
                    failure = _ERRORS[name](cause, path=path, advice=advice)
                    if isinstance(failure, TooLargeError):
                        self.end()  # memory that it still holds would reduce the next file's limit
                    raise failure
                if message.get("call") == call and "result" in message:
                    return decode(kind, message["result"])
            except (ProtocolError, KeyError) as error:
                self.end()
                raise DecoderCrashError(
                    "its decoder sent an invalid message and was ended",
                    path=path,
                    advice="The file may be made to attack decoders: don't open it elsewhere.",
                ) from error
            if why := deadline.expired:
                self.end()
                raise DecodeTimeoutError(
                    f"timeout: {why}", path=path, advice="It may be damaged; if it is only slow, raise --timeout."
                )

    def _crashed(self, path: str) -> Never:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_STOP_S)
        code = self._process.returncode or 0
        self.end()
        cause = f"its decoder ended unexpectedly (exit code {code})"
        if code < 0:
            name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
            cause = f"its decoder crashed ({name})"
            if name == "SIGKILL":
                cause = "its decoder was killed (SIGKILL), as happens when memory runs out"
        raise DecoderCrashError(cause, path=path, advice="The file is damaged: copy or download it again.")


def _receive(process: subprocess.Popen[bytes], messages: Messages) -> None:
    end: ProtocolError | None = None
    with cast("FileIO", process.stdout) as stream:
        try:
            for message in received(stream):
                while messages.qsize() >= _MOST_MESSAGES and process.poll() is None:
                    time.sleep(_SLICE_S)
                messages.put(message)
        except ProtocolError as error:
            end = error
    messages.put(end)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    cast("FileIO", process.stdin).close()
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        logger.debug("process %d doesn't end", process.pid)  # it hangs in the kernel, for example on a lost disk


def _unstartable(reason: str) -> TorchfakesError:
    return TorchfakesError(f"the decoding process can't be started: {reason}", advice="Run it with --debug to see why.")


class IsolatedDecoder:
    """Opens videos one after another in a child process, which is restarted after a file that crashed it.

    A context manager. The child process ends with this object, and also with this process, even if that crashes. All
    methods raise ``TorchfakesError`` if it can't be started.

    Args:
        timeout_s: maximum seconds without progress on a file; its total limit is this plus ``FRAME_S`` for each of its
            frames. Only time spent waiting for the child process counts.
        memory_mb: MiB that decoding may use in addition to the process's initial memory. Enforced on Linux, except with
            hardware decoding, because drivers reserve far more address space than memory.
        hwaccel: FFmpeg's name of a device to decode on, such as ``cuda``; None for software. If the device can't be
            used, software decodes and reports give the reason.

    Attributes:
        abandoned: whether ``abandon`` was called.
    """

    def __init__(self, *, timeout_s: float = 60.0, memory_mb: int = 2048, hwaccel: str | None = None) -> None:
        self.abandoned = False
        self._timeout_s = timeout_s
        self._settings = memory_mb, hwaccel
        self._process: _Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enforced(self) -> tuple[str, ...]:
        """Wait until the process is ready and return the restrictions that it verified for itself.

        These are any of ``network`` (it can't open sockets), ``file writes`` (it can't change files or start programs)
        and ``memory`` (its memory is limited).
        """
        return self.start().enforced()

    def start(self) -> _Process:
        """Start the process unless it runs, without waiting until it is ready."""
        process = self._process
        if not self.abandoned and (process is None or not process.alive):
            self.close()
            process = self._process = _Process(*self._settings)
        if self.abandoned or process is None:  # another thread may have abandoned it meanwhile
            self.close()
            raise TorchfakesError("the scan was stopped")
        return process

    def open(self, path: str | PathLike[str], *, threads: int | None = None) -> IsolatedReader:
        """Open a video; the previous one must be closed.

        Args:
            path: path of the file.
            threads: maximum number of decoding threads; None for one per core, or one fewer for small pictures.

        Raises:
            MediaError: the file can't be opened, holds no video, or no frame of it can be decoded within the limits.
        """
        process, opened = self._ask(path, tuple[VideoInfo, float | None], "open", threads=threads)
        return IsolatedReader(process, os.fspath(path), opened, self._timeout_s)

    def describe(self, path: str | PathLike[str]) -> FileFacts:
        """Return the provenance facts of a file; no video may be open.

        Raises:
            MediaError: the file can't be opened, or not within the limits.
        """
        return self._ask(path, FileFacts, "describe")[1]

    def _ask(self, path: str | PathLike[str], kind: type[_T], method: str, **arguments: Any) -> tuple[_Process, _T]:
        """Ask the process, or a new one if it died, perhaps just before this call and not because of the file."""
        retry = self._process is not None and self._process.alive
        while True:
            process = self.start()
            try:
                return process, process.ask(
                    os.fspath(path), kind, Deadline(self._timeout_s), method, path=_absolute(path), **arguments
                )
            except DecoderCrashError:
                if not retry:
                    raise
                retry = False

    def abandon(self) -> None:
        """End the process permanently, from any thread; pending and later calls fail."""
        self.abandoned = True
        self.close()

    def close(self) -> None:
        """End the process; opening another file starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.end()


class IsolatedReader:
    """Reads frames of one video through the decoding process, with the interface of ``VideoReader``; a context manager.

    Created by ``IsolatedDecoder.open``. Iterators may also raise ``DecodeTimeoutError``, ``TooLargeError`` and
    ``DecoderCrashError``.

    Attributes:
        info: metadata of the file, with measured duration and frame count.
        report: decode report of the latest iterator; complete once the iterator is exhausted.
    """

    def __init__(self, process: _Process, path: str, opened: tuple[VideoInfo, float | None], timeout_s: float) -> None:
        self._process = process
        self._path = path
        self._timeout_s = timeout_s
        self._iterator: Generator[Frame, None, None] | None = None
        info, self._sound_start_s = opened
        self.info = replace(info, path=path)
        self.report = DecodeReport(0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frames(self, sampling: SamplingConfig) -> Iterator[Frame]:
        """Decode the sampled frames in presentation order, a few ahead, like ``VideoReader.frames``."""
        return self._read(sampling=sampling)

    def every_frame(self) -> Iterator[Frame]:
        """Decode all frames in presentation order, like ``VideoReader.every_frame``."""
        return self._read()

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """Decode the frame nearest to each wanted time, like ``VideoReader.frames_at``."""
        return self._read(times_s=[float(time_s) for time_s in times_s])

    def _read(self, **wanted: Any) -> Iterator[Frame]:
        self.close()
        deadline = self._deadline(self._timeout_s)
        self.report = self._process.ask(self._path, DecodeReport, deadline, "sample", **wanted)
        self._iterator = self._pictures(deadline)
        return self._iterator

    def _deadline(self, silence_s: float) -> Deadline:
        return Deadline(silence_s, silence_s + FRAME_S * (self.info.frame_count or 0))

    def _pictures(self, deadline: Deadline) -> Generator[Frame, None, None]:
        process, path = self._process, self._path
        calls = deque(process.call(path, "next", slot=slot) for slot in range(SLOTS))
        try:
            for slot in cycle(range(SLOTS)):
                picture, self.report = process.wait(
                    calls.popleft(), tuple[Picture | None, DecodeReport], path, deadline
                )
                if picture is None:
                    return
                pixels = process.memory.slot(slot, picture.height, picture.width).copy()
                calls.append(process.call(path, "next", slot=slot))
                yield Frame(picture.time_s, picture.index, pixels, picture.damaged)
        except GeneratorExit:
            if process.alive:  # ends it if it doesn't finish its frames in time
                with suppress(TorchfakesError):
                    process.ask(path, bool, Deadline(_STOP_S, _STOP_S), "close")
            raise

    def add_sound(self, silent: Path, target: Path, container: str) -> tuple[bool, tuple[str, ...]]:
        """Write a silent clip to a new file with this file's sound, with ``video.encode.add_sound``.

        A separate process does this: the decoding process can't change files, and the new one can write only to the
        file descriptor that it inherits. After an error the new file is unusable.
        """
        # There is no progress signal while the finished file's index is moved to the front.
        deadline = self._deadline(self._timeout_s + silent.stat().st_size / _DISK_BYTES_PER_S)
        with target.open("w+b") as file:
            inherited = () if sys.platform == "win32" else (file.fileno(),)
            process = _Process(*self._process.settings, inherited)
            try:
                return process.ask(
                    self._path,
                    tuple[bool, tuple[str, ...]],
                    deadline,
                    "add_sound",
                    path=_absolute(self._path),
                    silent=_absolute(silent),
                    target=[_absolute(target), *inherited],
                    zero_s=self._sound_start_s,
                    container=container,
                )
            finally:
                process.end()

    def close(self) -> None:
        """End the iterator if it is running; no other thread may be waiting for a frame."""
        if self._iterator is not None:
            self._iterator.close()


def _absolute(path: str | PathLike[str]) -> str:
    return str(Path(path).absolute())
