"""Starts the decoding process, asks it, and says in an error of ours what becomes of it."""

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

#: A process that isn't ready after so many seconds never will be.
_START_S = 60.0
#: Seconds that a process which is told to stop has for the frame it is at; a new one is ready as soon.
_STOP_S = 1.0
#: Waiting is cut into such slices, to notice that it isn't wanted any more.
_SLICE_S = 0.1
#: Bytes that a disk takes in a second, at least.
_DISK_BYTES_PER_S = 5_000_000
#: Seconds of work that each frame of a file may add to the time in which all of it must be decoded. It is a backstop
#: against files made to be slow: an 8K frame on an old core takes about half of it.
FRAME_S = 0.5

# Nothing but this program is imported: not the user's main module, as multiprocessing would, nor a file that lies in
# the current folder and is named like a library.
_PROGRAM = "import json, sys; sys.path[:], *rest = json.loads(sys.argv[1]); "
_PROGRAM += "from torchfakes_cli.video.isolation.server import main; main(*rest)"

# A process that decodes needs no threads for linear algebra. Each further arena of the allocator takes 64 MiB or more
# of address space, or none where it doesn't fit: a limit near what a file needs would hold on one run but not the next.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class Deadline:
    """How long the decoding process is waited for.

    Args:
        silence_s: seconds without a sign of progress.
        total_s: seconds in all.

    Attributes:
        slice_s: how long to wait at once.
    """

    def __init__(self, silence_s: float, total_s: float = math.inf) -> None:
        self._silence_s = silence_s
        self._total_s = total_s
        self.slice_s = min(_SLICE_S, silence_s)
        self._silent_s = 0.0
        self._spent_s = 0.0

    def restart_silence(self) -> None:
        """Begins the wait for another message."""
        self._silent_s = 0.0

    def spend(self, seconds: float, *, progress: bool) -> None:
        """Counts time that was waited."""
        self._silent_s = 0.0 if progress else self._silent_s + seconds
        self._spent_s += seconds

    @property
    def expired(self) -> str:
        """The reason of the timeout, or an empty string while time remains."""
        if self._silent_s >= self._silence_s:
            return f"its decoder made no progress for {self._silence_s:g} s"
        if self._spent_s >= self._total_s:
            return f"decoding it took longer than {self._total_s:.0f} s"
        return ""


class _Process:
    """The decoding process, seen from outside.

    Args:
        memory_mb: see ``IsolatedDecoder``.
        hwaccel: see ``IsolatedDecoder``.
        inherited: further file descriptors for it.

    Attributes:
        memory: through which pictures come.
        enforced: the limits that it found to hold for itself, once it is ready.
        end: ends it.
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
        """Whether it can be used."""
        return self.end.alive and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Waits for its first message.

        Raises:
            TorchfakesError: it has ended before.
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
        """Returns the next message, see ``Channel.receive``."""
        return self._channel.receive(timeout_s)

    def end_described(self) -> str:
        """Ends the process, and tells in words how it had ended by itself."""
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
        logger.debug("process %d doesn't end", process.pid)  # it hangs in the kernel, on a lost disk for example


def _unstartable(reason: str) -> TorchfakesError:
    return TorchfakesError(f"the decoding process can't be started: {reason}", advice="Run it with --debug to see why.")


class _Session:
    """Calls to the process about one file.

    Args:
        process: that is asked; this waits until it is ready.
        path: of the file.
        timeout_s: it is given up when it makes no progress for so many seconds.
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
        """The file's path and the folder that it starts from, empty where it needs none."""
        return {"path": self._path, "folder": "" if Path(self._path).is_absolute() else str(Path.cwd())}

    def ask(self, method: str, deadline: Deadline | None = None, **arguments: Any) -> Any:
        """Calls a method of the server that gives no items, and returns its result; None where it was stopped."""
        self._begin(method, **arguments)
        kind, body = self._next(deadline or Deadline(self._timeout_s))
        return body if kind == "result" else None

    def _begin(self, method: str, **arguments: Any) -> None:
        try:
            self._call = self._process.call(method, **arguments)
        except OSError:
            self._crashed()

    def _next(self, deadline: Deadline) -> tuple[str, Any]:
        """Waits for the next item or the result of the call, as (kind, body); kind is empty where it was stopped.

        Raises:
            TorchfakesError: what the process tells, or what is to be said of its end.
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
                self._process.end()  # it would go on, with nobody there to take what it has
                raise
            # A slice that took far longer than it should: this process was stopped, and the other one perhaps as well.
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
        """Decodes a part of a message."""
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
            self._process.end()  # what it still holds would be missing to the next file
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
            "its decoder sent what makes no sense and was ended",
            path=self._path,
            advice="The file may be made to attack decoders: don't open it elsewhere.",
        )


class IsolatedDecoder:
    """Opens videos, one after another, in a process that is started once and again after each file that broke it.

    A context manager; the process also ends with this object, and with this process, however that ends.

    Args:
        timeout_s: a file is given up when its decoder makes no progress for so many seconds, or takes longer in all
            than these and ``FRAME_S`` for each of its frames. Only time in which this process waits for it counts.
        memory_mb: MiB that decoding may take beyond what the process holds from the start. Held to on Linux, unless a
            device decodes: drivers reserve far more addresses than memory.
        hwaccel: FFmpeg's name of a device to decode on, such as ``cuda``; where it can't be used, reports say so and
            software decodes. None for software.
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
        """Starts the process unless it runs, without waiting for it.

        Raises:
            TorchfakesError: it can't be started.
        """
        self._started()

    def enforced(self) -> tuple[str, ...]:
        """Waits until the process answers, and says which limits hold for it: it tried them itself.

        Returns:
            Any of ``network`` (it can't open sockets), ``file writes`` (nor change files, nor start programs) and
            ``memory``.

        Raises:
            TorchfakesError: it can't be started.
        """
        process = self._started()
        process.wait_until_ready()
        return process.enforced or ()

    def _started(self) -> _Process:
        process = self._process
        if not self._abandoned and (process is None or not process.alive):
            self.close()
            process = self._process = _Process(*self._settings)
        if self._abandoned or process is None:  # perhaps only since it has been started
            self.close()
            raise TorchfakesError("the scan was stopped")
        return process

    def open(self, path: str | PathLike[str], *, threads: int | None = None) -> IsolatedReader:
        """Opens a video; the one before must be closed.

        Args:
            path: of the file.
            threads: that may decode at once; None for one a core, or one fewer where pictures are small.

        Raises:
            MediaError: the file can't be opened, holds no video, or no frame of it can be decoded within the limits.
            TorchfakesError: the process can't be started.
        """
        name = os.fspath(path)
        return self._on_a_live_process(
            lambda process: IsolatedReader(process, name, threads, self._timeout_s, self._settings)
        )

    def describe(self, path: str | PathLike[str]) -> FileFacts:
        """What a file tells of itself and of how it was made; no video may be open.

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
            # It may have died before this file came, too shortly ago to be noticed: a fresh process tells.
            self.close()
            return ask(self._started())

    @property
    def abandoned(self) -> bool:
        """Whether it is of no use any more."""
        return self._abandoned

    def abandon(self) -> None:
        """Ends the process for good, from whichever thread: what waits for it fails, and so does all asked later."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        """Ends the process; opening another file starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.end()


class IsolatedReader(_Session):
    """Reads sampled frames of one video as ``VideoReader`` does, through a process of its own; a context manager.

    Made by ``IsolatedDecoder.open``.
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
        """What is known of the file; duration and number of frames are counted."""
        return self._info

    @property
    def report(self) -> DecodeReport:
        """How the latest iterator went; complete once it is exhausted."""
        return self._report

    def frames(self, sampling: SamplingConfig) -> Iterator[Frame]:
        """Decodes the sampled frames in order of presentation; a few are decoded ahead.

        Args:
            sampling: which frames are wanted.

        Returns:
            An iterator over frames, as that of ``VideoReader.frames``. It may also raise ``DecodeTimeoutError``,
            ``TooLargeError`` and ``DecoderCrashError``.

        Raises:
            UsageError: no frame lies in the wanted span.
        """
        return self._read(sampling=encode(sampling))

    def every_frame(self) -> Iterator[Frame]:
        """Decodes all frames in order of presentation, as ``VideoReader.every_frame`` does."""
        return self._read()

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """Decodes the frame nearest to each wanted time.

        Args:
            times_s: seconds, increasing.

        Returns:
            An iterator over frames, as that of ``VideoReader.frames_at``; it may raise what that of ``frames`` may.
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
        """Writes a clip of pictures alone again with this file's sound, see ``video.encode``.

        No iterator may be running. It is done by a process of its own: the one that decodes may change no file, and
        this one may write but the file that it inherits.

        Raises:
            TorchfakesError: the process failed at it; what there is of the new file is of no use.
        """
        self._stopped.clear()
        # While the file is put in order at the end there is no sign of progress.
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
        """Ends the iterator soon, from whichever thread: what waits for its next frame doesn't get one."""
        self._stopped.set()

    def close(self) -> None:
        """Ends the iterator if it is still running; no other thread may be waiting for a frame then."""
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
