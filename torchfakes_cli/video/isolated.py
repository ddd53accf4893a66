"""Reads videos in a process of its own, so that a file which hangs or crashes its decoder costs no more than itself."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeVar

from torchfakes_cli.errors import DecoderCrashError, TorchfakesError
from torchfakes_cli.records import DecodeReport, FileFacts, Frame, VideoInfo
from torchfakes_cli.video.channel import (
    AddSound,
    Describe,
    Described,
    Ended,
    Failed,
    Open,
    Opened,
    Picture,
    Release,
    Sample,
    SampleAt,
    SoundAdded,
    Started,
    Stop,
    WorkerSettings,
)
from torchfakes_cli.video.dialogue import Dialogue
from torchfakes_cli.video.patience import LOOK_UP_S, Patience
from torchfakes_cli.video.process import STOP_S, DecodingProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from os import PathLike
    from pathlib import Path
    from types import TracebackType

    from torchfakes_cli.config import SamplingConfig

_Answer = TypeVar("_Answer")

#: Bytes that a disk takes in a second, at least.
_DISK_BYTES_PER_S = 5_000_000

#: Seconds of work that each frame of a file may add to the time in which all of it must be decoded. It is a backstop
#: against files made to be slow: an 8K frame on an old core takes about half of it.
FRAME_S = 0.5


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
        self._settings = WorkerSettings(memory_mb, hwaccel)
        self._process: DecodingProcess | None = None
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

    def wait(self) -> None:
        """Starts the process unless it runs, and waits until it answers.

        Raises:
            TorchfakesError: it can't be started.
        """
        self._started().wait_until_ready()

    def _started(self) -> DecodingProcess:
        process = self._process
        if not self._abandoned and (process is None or not process.alive):
            self.close()
            process = self._process = DecodingProcess(self._settings)
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
        return self._on_a_live_process(
            lambda process: IsolatedReader(process, os.fspath(path), threads, self._timeout_s)
        )

    def describe(self, path: str | PathLike[str]) -> FileFacts:
        """What a file tells of itself and of how it was made; no video may be open.

        Raises:
            MediaError: the file can't be opened, or not within the limits.
            TorchfakesError: the process can't be started.
        """
        return self._on_a_live_process(lambda process: _Description(process, os.fspath(path), self._timeout_s).facts)

    def _on_a_live_process(self, ask: Callable[[DecodingProcess], _Answer]) -> _Answer:
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


class IsolatedReader(Dialogue):
    """Reads sampled frames of one video as ``VideoReader`` does, through a process of its own; a context manager.

    Made by ``IsolatedDecoder.open``.
    """

    def __init__(self, process: DecodingProcess, path: str, threads: int | None, timeout_s: float) -> None:
        super().__init__(process, path, timeout_s)
        self._report = DecodeReport(0, 0)
        opened = self._ask(Open(path, self._folder, threads), Patience(timeout_s))
        assert isinstance(opened, Opened), "what is asked of the process has one kind of answer"
        self._info = opened.info

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
        return self._start(Sample(sampling))

    def every_frame(self) -> Iterator[Frame]:
        """Decodes all frames in order of presentation, as ``VideoReader.every_frame`` does."""
        return self._start(Sample(None))

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """Decodes the frame nearest to each wanted time.

        Args:
            times_s: seconds from the first frame, increasing.

        Returns:
            An iterator over frames, as that of ``VideoReader.frames_at``; it may raise what that of ``frames`` may.
        """
        return self._start(SampleAt(tuple(times_s)))

    def _start(self, request: Sample | SampleAt) -> Iterator[Frame]:
        self.close()
        self._stopped.clear()
        patience = Patience(self._timeout_s, self._timeout_s + self._work_s)
        started = self._ask(request, patience)
        assert isinstance(started, Started), "what is asked of the process has one kind of answer"
        self._running = True
        return self._pictures(patience)

    def add_sound(self, silent: Path, target: Path, container: str) -> tuple[bool, tuple[str, ...]]:
        """Writes a clip of pictures alone again with this file's sound, as ``VideoReader.add_sound`` does.

        No iterator may be running.

        Raises:
            TorchfakesError: the process failed at it; what there is of the new file is of no use.
        """
        self._stopped.clear()
        # While the file is put in order at the end there is no sign of progress.
        order_s = silent.stat().st_size / _DISK_BYTES_PER_S
        patience = Patience(self._timeout_s + order_s, self._timeout_s + order_s + self._work_s)
        answer = self._ask(AddSound(str(silent.absolute()), str(target.absolute()), container), patience)
        assert isinstance(answer, SoundAdded), "what is asked of the process has one kind of answer"
        return answer.added, answer.notes

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
        deadline = time.monotonic() + STOP_S
        message: object | None = None
        try:
            self._process.send(Stop())
            while not isinstance(message, Ended | Failed) and time.monotonic() < deadline:
                message = self._process.receive(LOOK_UP_S)
        except (EOFError, OSError):
            message = None
        finally:
            if not isinstance(message, Ended | Failed):
                self._process.end()

    def _pictures(self, patience: Patience) -> Generator[Frame, None, None]:
        while (message := self._next(patience)) is not None:
            if isinstance(message, Ended):
                self._report = message.report
                self._running = False
                return
            assert isinstance(message, Picture)
            self._report = message.report
            pixels = self._process.memory.read(message.slot, message.height, message.width)
            self._send(Release(message.slot))
            yield Frame(message.time_s, message.index, pixels, message.damaged)


class _Description(Dialogue):
    """Asks for the facts of one file."""

    def __init__(self, process: DecodingProcess, path: str, timeout_s: float) -> None:
        super().__init__(process, path, timeout_s)
        described = self._ask(Describe(path, self._folder), Patience(timeout_s))
        assert isinstance(described, Described), "what is asked of the process has one kind of answer"
        self.facts = described.facts
