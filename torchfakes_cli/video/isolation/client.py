"""Client of the decoding process: starts it, calls it, and translates its failures to exceptions."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Never, TypeVar

from torchfakes_cli.errors import DecoderCrashError, DecodeTimeoutError, TooLargeError, TorchfakesError
from torchfakes_cli.records import DecodeReport, FileFacts, Frame, VideoInfo
from torchfakes_cli.video.isolation.protocol import (
    Channel,
    PictureMemory,
    ProtocolError,
    decode,
    decode_error,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from os import PathLike
    from types import TracebackType

    from torchfakes_cli.video.options import SamplingConfig

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: Maximum seconds that a process takes to start.
_START_S = 60.0
#: Seconds that a process gets to finish its current frame when it is stopped; starting a new one takes as long.
_STOP_S = 1.0
#: Maximum seconds of one wait, after which cancellation is checked.
_SLICE_S = 0.1
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


class Deadline:
    """Time limit for an answer of the decoding process.

    Args:
        silence_s: maximum seconds without a sign of progress.
        total_s: maximum total seconds.

    Attributes:
        slice_s: maximum seconds of one wait.
    """

    def __init__(self, silence_s: float, total_s: float = math.inf) -> None:
        self._silence_s = silence_s
        self._total_s = total_s
        self.slice_s = min(_SLICE_S, silence_s)
        self._silent_s = 0.0
        self._spent_s = 0.0

    def restart_silence(self) -> None:
        """Restarts the limit on seconds without progress for the next message."""
        self._silent_s = 0.0

    def spend(self, seconds: float, *, progress: bool) -> None:
        """Adds waited seconds; progress restarts the limit on silence."""
        self._silent_s = 0.0 if progress else self._silent_s + seconds
        self._spent_s += seconds

    @property
    def expired(self) -> str:
        """Timeout reason, or an empty string while time remains."""
        if self._silent_s >= self._silence_s:
            return f"its decoder made no progress for {self._silence_s:g} s"
        if self._spent_s >= self._total_s:
            return f"decoding it took longer than {self._total_s:.0f} s"
        return ""


class _Process:
    """Handle of a decoding process.

    Args:
        memory_mb: memory limit, as for ``IsolatedDecoder``.
        hwaccel: hardware device, as for ``IsolatedDecoder``.
        inherited: additional file descriptors for the process to inherit.

    Attributes:
        memory: shared memory for pictures.
        enforced: restrictions that the process verified for itself; None until it is ready.
        end: function that ends the process.
    """

    def __init__(self, memory_mb: int, hwaccel: str | None, inherited: tuple[int, ...] = ()) -> None:
        self.memory = PictureMemory()
        self.enforced: tuple[str, ...] | None = None
        self._calls = 0
        ours, theirs = multiprocessing.Pipe()
        self._channel = Channel(ours)
        handles = theirs.fileno(), self.memory.handle
        settings: dict[str, Any] = {}
        try:
            if sys.platform == "win32":
                os.set_handle_inheritable(handles[0], True)
                settings["startupinfo"] = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handles[0]]})
            else:
                settings["pass_fds"] = (*handles, *inherited)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps([sys.path, *handles, memory_mb, hwaccel])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                **settings,
            )
        except (OSError, ValueError) as error:
            self._channel.close()
            raise _unstartable(getattr(error, "strerror", None) or str(error)) from error
        finally:
            theirs.close()
            self.memory.release_handle()
        self.end = weakref.finalize(self, _end, self._process, self._channel)

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self.end.alive and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Waits for the process's first message.

        Raises:
            TorchfakesError: the process ended before.
        """
        if self.enforced is None:
            with suppress(EOFError, OSError, ProtocolError, TypeError, KeyError):
                message = self.receive(_START_S) or {}
                self.enforced = decode(tuple[str, ...], message["result"]["enforced"])
        if self.enforced is None:
            self.end()
            raise _unstartable(f"exit code {self._process.returncode}")

    def call(self, method: str, **arguments: Any) -> int:
        """Sends a call and returns its number; raises OSError where the process has ended."""
        self._calls += 1
        self.send({"call": self._calls, "method": method, "arguments": arguments})
        return self._calls

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; raises OSError where the process has ended."""
        self._channel.send(message)

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Returns the next message as ``Channel.receive`` does."""
        return self._channel.receive(timeout_s)

    def end_described(self) -> str:
        """Ends the process and describes how it had terminated."""
        try:
            code = self._process.wait(timeout=_STOP_S)
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


def _end(process: subprocess.Popen[bytes], channel: Channel) -> None:
    channel.close()
    process.kill()
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        logger.debug("process %d doesn't end", process.pid)  # it hangs in the kernel, for example on a lost disk


def _unstartable(reason: str) -> TorchfakesError:
    return TorchfakesError(f"the decoding process can't be started: {reason}", advice="Run it with --debug to see why.")


class _Session:
    """Calls to the decoding process for one file.

    Args:
        process: decoding process; the constructor waits until it is ready.
        path: path of the file.
        timeout_s: maximum seconds without progress.
    """

    def __init__(self, process: _Process, path: str, timeout_s: float) -> None:
        self._process = process
        self._path = path
        self._timeout_s = timeout_s
        self._call = 0
        self._running = False
        self._stopped = Event()
        process.wait_until_ready()

    @property
    def _file(self) -> dict[str, Any]:
        """The file's path and the folder that a relative path refers to; empty for an absolute path."""
        return {"path": self._path, "folder": "" if Path(self._path).is_absolute() else str(Path.cwd())}

    def ask(self, method: str, deadline: Deadline | None = None, **arguments: Any) -> Any:
        """Calls a server method without items and returns its result; None if the call was stopped."""
        self._begin(method, **arguments)
        kind, body = self._next(deadline or Deadline(self._timeout_s))
        return body if kind == "result" else None

    def _begin(self, method: str, **arguments: Any) -> None:
        try:
            self._call = self._process.call(method, **arguments)
        except OSError:
            self._crashed()

    def _next(self, deadline: Deadline) -> tuple[str, Any]:
        """Waits for the next item or the result of the call, as (kind, body); kind is empty if the call was stopped.

        Raises:
            TorchfakesError: the process reported an error, timed out or ended.
        """
        deadline.restart_silence()
        while not self._stopped.is_set():
            started = time.monotonic()
            try:
                message = self._process.receive(deadline.slice_s)
            except (EOFError, OSError):
                self._crashed()
            except ProtocolError:
                self._confused()
            except KeyboardInterrupt:
                self._process.end()  # it would continue to decode without a reader
                raise
            # Limited to two slices: a longer wait means that this process was suspended, perhaps with the other one.
            deadline.spend(min(time.monotonic() - started, 2 * deadline.slice_s), progress=message is not None)
            if message is not None and message.get("call") == self._call:
                if "error" in message:
                    self._failed(message["error"])
                for kind in ("item", "result"):
                    if kind in message:
                        return kind, message[kind]
            if deadline.expired:
                self._give_up(deadline.expired)
        return "", None

    def _decode(self, kind: Any, body: Any, *keys: str) -> Any:
        """Decodes a part of a message to a type."""
        try:
            for key in keys:
                body = body[key]
            return decode(kind, body)
        except (ProtocolError, KeyError, TypeError):
            self._confused()

    def _failed(self, told: Any) -> Never:
        self._running = False
        try:
            error = decode_error(told)
        except ProtocolError:
            self._confused()
        if isinstance(error, TooLargeError):
            self._process.end()  # memory that it still holds would reduce the next file's limit
        raise error

    def _give_up(self, why: str) -> Never:
        self._running = False
        self._process.end()
        raise DecodeTimeoutError(
            f"timeout: {why}", path=self._path, advice="It may be damaged; if it is only slow, raise --timeout."
        )

    def _crashed(self) -> Never:
        self._running = False
        raise DecoderCrashError(
            self._process.end_described(), path=self._path, advice="The file is damaged: copy or download it again."
        )

    def _confused(self) -> Never:
        self._running = False
        self._process.end()
        raise DecoderCrashError(
            "its decoder sent an invalid message and was ended",
            path=self._path,
            advice="The file may be made to attack decoders: don't open it elsewhere.",
        )


class IsolatedDecoder:
    """Opens videos one after another in a child process, which is restarted after a file that crashed it.

    A context manager. The child process ends with this object, and also with this process, even if that crashes.

    Args:
        timeout_s: maximum seconds without progress on a file; its total limit is this plus ``FRAME_S`` for each of its
            frames. Only time spent waiting for the child process counts.
        memory_mb: MiB that decoding may use in addition to the process's initial memory. Enforced on Linux, except with
            hardware decoding, because drivers reserve far more address space than memory.
        hwaccel: FFmpeg's name of a device to decode on, such as ``cuda``; None for software. If the device can't be
            used, software decodes and reports give the reason.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 60.0,
        memory_mb: int = 2048,
        hwaccel: str | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._settings = memory_mb, hwaccel
        self._process: _Process | None = None
        self._abandoned = False

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts the process unless it runs, without waiting until it is ready.

        Raises:
            TorchfakesError: the process can't be started.
        """
        self._started()

    def enforced(self) -> tuple[str, ...]:
        """Waits until the process is ready and returns the restrictions that it verified for itself.

        Returns:
            Any of ``network`` (it can't open sockets), ``file writes`` (it can't change files or start programs) and
            ``memory`` (its memory is limited).

        Raises:
            TorchfakesError: the process can't be started.
        """
        process = self._started()
        process.wait_until_ready()
        return process.enforced or ()

    def _started(self) -> _Process:
        process = self._process
        if not self._abandoned and (process is None or not process.alive):
            self.close()
            process = self._process = _Process(*self._settings)
        if self._abandoned or process is None:  # another thread may have abandoned it meanwhile
            self.close()
            raise TorchfakesError("the scan was stopped")
        return process

    def open(self, path: str | PathLike[str], *, threads: int | None = None) -> IsolatedReader:
        """Opens a video; the previous one must be closed.

        Args:
            path: path of the file.
            threads: maximum number of decoding threads; None for one per core, or one fewer for small pictures.

        Raises:
            MediaError: the file can't be opened, holds no video, or no frame of it can be decoded within the limits.
            TorchfakesError: the process can't be started.
        """
        name = os.fspath(path)
        return self._on_a_live_process(
            lambda process: IsolatedReader(process, name, threads, self._timeout_s, self._settings)
        )

    def describe(self, path: str | PathLike[str]) -> FileFacts:
        """Returns the provenance facts of a file; no video may be open.

        Raises:
            MediaError: the file can't be opened, or not within the limits.
            TorchfakesError: the process can't be started.
        """

        def describe(process: _Process) -> FileFacts:
            session = _Session(process, os.fspath(path), self._timeout_s)
            facts: FileFacts = session._decode(FileFacts, session.ask("describe", **session._file))
            return facts

        return self._on_a_live_process(describe)

    def _on_a_live_process(self, ask: Callable[[_Process], _Answer]) -> _Answer:
        served_before = self._process is not None and self._process.alive
        try:
            return ask(self._started())
        except DecoderCrashError:
            if not served_before:
                raise
            # The process may have died just before this call: a retry with a new one shows if the file is at fault.
            self.close()
            return ask(self._started())

    @property
    def abandoned(self) -> bool:
        """Whether ``abandon`` was called."""
        return self._abandoned

    def abandon(self) -> None:
        """Ends the process permanently, from any thread; pending and later calls fail."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        """Ends the process; opening another file starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.end()


class IsolatedReader(_Session):
    """Reads frames of one video through the decoding process, with the interface of ``VideoReader``; a context manager.

    Created by ``IsolatedDecoder.open``.
    """

    def __init__(
        self, process: _Process, path: str, threads: int | None, timeout_s: float, settings: tuple[int, str | None]
    ) -> None:
        super().__init__(process, path, timeout_s)
        self._settings = settings
        self._report = DecodeReport(0, 0)
        opened = self.ask("open", **self._file, threads=threads)
        self._info: VideoInfo = self._decode(VideoInfo, opened, "info")
        self._sound_start_s: float | None = self._decode(float | None, opened, "sound_start_s")

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def info(self) -> VideoInfo:
        """Metadata of the file, with measured duration and frame count."""
        return self._info

    @property
    def report(self) -> DecodeReport:
        """Decode report of the latest iterator; complete once the iterator is exhausted."""
        return self._report

    def frames(self, sampling: SamplingConfig) -> Iterator[Frame]:
        """Decodes the sampled frames in presentation order; a few are decoded ahead.

        Args:
            sampling: sampling options.

        Returns:
            An iterator over frames like that of ``VideoReader.frames``. It may also raise ``DecodeTimeoutError``,
            ``TooLargeError`` and ``DecoderCrashError``.

        Raises:
            UsageError: no frame lies in the selected time span.
        """
        return self._read(sampling=encode(sampling))

    def every_frame(self) -> Iterator[Frame]:
        """Decodes all frames in presentation order, like ``VideoReader.every_frame``."""
        return self._read()

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """Decodes the frame nearest to each wanted time.

        Args:
            times_s: seconds on the player's clock, increasing.

        Returns:
            An iterator over frames like that of ``VideoReader.frames_at``, with the exceptions of ``frames``.
        """
        return self._read(times_s=[float(time_s) for time_s in times_s])

    def _read(self, **wanted: Any) -> Iterator[Frame]:
        self.close()
        self._stopped.clear()
        deadline = Deadline(self._timeout_s, self._timeout_s + self._work_s)
        self._report = self._decode(DecodeReport, self.ask("sample", deadline, **wanted))
        self._begin("read")
        self._running = True
        return self._pictures(deadline)

    def _pictures(self, deadline: Deadline) -> Generator[Frame, None, None]:
        while True:
            kind, body = self._next(deadline)
            if not kind:
                return
            if kind == "result":
                self._running = False
                self._report = self._decode(DecodeReport, body)
                return
            slot = self._decode(int, body, "slot")
            width, height = self._decode(tuple[int, int], body, "size")
            try:
                pixels = self._process.memory.read(slot, height, width)
                self._process.send({"call": self._call, "free": slot})
            except ProtocolError:
                self._confused()
            except OSError:
                self._crashed()
            index = self._decode(int | None, body, "index")
            yield Frame(self._decode(float, body, "time_s"), index, pixels, self._decode(bool, body, "damaged"))

    def add_sound(self, silent: Path, target: Path, container: str) -> tuple[bool, tuple[str, ...]]:
        """Writes a silent clip to a new file with this file's sound, with ``video.encode.add_sound``.

        No iterator may be running. A separate process does this: the decoding process can't change files, and the new
        one can write only to the file descriptor that it inherits.

        Raises:
            TorchfakesError: the process failed; the new file is unusable.
        """
        self._stopped.clear()
        # There is no progress signal while the finished file's index is moved to the front.
        order_s = silent.stat().st_size / _DISK_BYTES_PER_S
        deadline = Deadline(self._timeout_s + order_s, self._timeout_s + order_s + self._work_s)
        arguments: dict[str, Any] = {
            "silent": str(silent.absolute()),
            "container": container,
            "start_s": self._sound_start_s,
        }
        with target.open("w+b") as file:
            inherited = () if sys.platform == "win32" else (file.fileno(),)
            process = _Process(*self._settings, inherited)
            try:
                session = _Session(process, self._path, self._timeout_s)
                arguments["target"] = [str(target.absolute()), *inherited]
                answer = session.ask("add_sound", deadline, **session._file, **arguments)
            finally:
                process.end()
        return self._decode(bool, answer, "added"), self._decode(tuple[str, ...], answer, "notes")

    @property
    def _work_s(self) -> float:
        return FRAME_S * (self._info.frame_count or 0)

    def stop(self) -> None:
        """Requests the end of the iterator, from any thread; a pending wait for a frame returns without one."""
        self._stopped.set()

    def close(self) -> None:
        """Ends the iterator if it is running; no other thread may be waiting for a frame."""
        self.stop()
        if not self._running:
            return
        self._running = False
        deadline = time.monotonic() + _STOP_S
        ended = False
        try:
            self._process.send({"call": self._call, "stop": True})
            while not ended and time.monotonic() < deadline:
                message = self._process.receive(_SLICE_S) or {}
                ended = message.get("call") == self._call and ("result" in message or "error" in message)
        except (EOFError, OSError, ProtocolError):
            pass
        finally:
            if not ended:
                self._process.end()
