"""Server in the decoding process: answers the calls of its parent process, one file after another."""

from __future__ import annotations

import os
import signal
import threading
import time
from io import FileIO
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.facts import FileFacts
from torchfakes_cli.records import DecodeReport, Frame, VideoInfo
from torchfakes_cli.video.encode import add_sound
from torchfakes_cli.video.isolation import sandbox
from torchfakes_cli.video.isolation.protocol import Picture, PictureMemory, decode, received, send
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Minimum seconds between progress messages.
_PROGRESS_S = 0.1


def main(memory_handle: int | str, memory_mb: int, hwaccel: str | None) -> None:
    """Answer calls on standard input until the parent process closes it or ends; see ``IsolatedDecoder``."""
    # An interrupt at the terminal reaches all processes; the client handles it and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls, answers = FileIO(0, closefd=False), FileIO(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    server = _Server(answers, PictureMemory(memory_handle), memory_mb, hwaccel)
    # No restrictions with a device: drivers write to device files and reserve far more address space than memory.
    enforced = sandbox.apply() if hwaccel is None else ()
    waiting: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_receive, args=(calls, waiting), daemon=True).start()
    if hwaccel is None and sandbox.limit_memory(memory_mb):
        enforced += ("memory",)
    server.send("result", enforced)
    while True:
        server.answer(**waiting.get())


def _receive(calls: FileIO, waiting: SimpleQueue[dict[str, Any]]) -> None:
    for message in received(calls):
        waiting.put(message)
    os._exit(0)  # immediately, even while decoding, because the client is gone


class _Server:
    """Answers calls: the method ``open`` of the protocol is ``on_open`` here, and so on."""

    def __init__(self, answers: FileIO, memory: PictureMemory, memory_mb: int, hwaccel: str | None) -> None:
        self._answers = answers
        self._memory = memory
        self._memory_mb = memory_mb
        self._hwaccel = hwaccel
        self._call = 0
        self._reader: VideoReader | None = None
        self._frames: Iterator[Frame] = iter(())
        self._progress_at = 0.0
        self._sending = threading.Lock()

    def answer(self, call: int, method: str, arguments: dict[str, Any]) -> None:
        """Run the method ``on_…`` and send its result or error."""
        self._call = call
        try:
            self.send("result", getattr(self, f"on_{method}")(**arguments))
            return
        except TorchfakesError as error:
            failure = type(error).__name__, error.cause, error.advice
        except MemoryError:
            cause = f"too_large: decoding it takes more than {self._memory_mb} MiB of memory"
            failure = "TooLargeError", cause, "Raise --memory-limit, or scale the video down first."
        except Exception as error:  # noqa: BLE001 - reported to the client, where it fails only this file
            reason = " ".join(str(error).split()) or "no message"
            failure = "DecodeError", f"unexpected {type(error).__name__}: {reason}", ""
        self.send("error", failure)

    def send(self, kind: str, body: Any) -> None:
        """Send a message about the current call; decoding threads send progress."""
        try:
            with self._sending:
                send(self._answers, {"call": self._call, kind: body})
        except OSError:
            os._exit(0)

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_S:
            self._progress_at = now
            self.send("progress", True)

    def on_open(self, path: str, threads: int | None) -> tuple[VideoInfo, float | None]:
        self._reader = None  # frees its memory first
        self._reader = reader = VideoReader(path, self._progress, threads=threads, hwaccel=self._hwaccel)
        return reader.info, reader.sound_start_s

    def on_sample(self, sampling: Any = None, times_s: list[float] | None = None) -> DecodeReport:
        """Select the frames of a ``SamplingConfig``, the frames nearest to given times, or all frames."""
        reader = self._reader
        assert reader is not None
        reader.close()
        if sampling is not None:
            self._frames = reader.frames(decode(SamplingConfig, sampling))
        else:
            self._frames = reader.every_frame() if times_s is None else reader.frames_at(times_s)
        return reader.report

    def on_next(self, slot: int) -> tuple[Picture | None, DecodeReport]:
        assert self._reader is not None
        frame = next(self._frames, None)
        if frame is None:
            return None, self._reader.report
        width, height = frame.size
        self._memory.slot(slot, height, width)[:] = frame.pixels
        return Picture(frame.time_s, frame.index, width, height, frame.damaged), self._reader.report

    def on_close(self) -> bool:
        if self._reader is not None:
            self._reader.close()
        return True

    def on_describe(self, path: str) -> FileFacts:
        from torchfakes_cli.video.metadata import describe_file  # loaded lazily, because few scans need it

        self._reader = None
        return describe_file(path, self._progress)

    def on_add_sound(self, path: str, **arguments: Any) -> tuple[bool, tuple[str, ...]]:
        return add_sound(source=path, on_packet=self._progress, **arguments)
