"""The process that decodes: answers the requests of the process that started it, one file after another."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from torchfakes_cli.errors import DecodeError, TooLargeError, TorchfakesError
from torchfakes_cli.video.channel import (
    SLOTS,
    AddSound,
    Ended,
    Failed,
    Open,
    Opened,
    Picture,
    PictureMemory,
    Progress,
    Release,
    Sample,
    SampleAt,
    SoundAdded,
    Started,
    Stop,
    WorkerSettings,
    inherited_connection,
)
from torchfakes_cli.video.decode import VideoReader

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    # Slots that are free to be filled; None where no more frames are wanted.
    Slots = SimpleQueue[int | None]

#: Seconds between two signs of progress, at least.
_PROGRESS_S = 0.1


def main(connection_handle: int, memory_handle: int | str, memory_mb: int, hwaccel: str | None) -> None:
    """Runs until the process that started this one closes the connection, by intent or by its death.

    Args:
        connection_handle: this process's end of the connection.
        memory_handle: of the ``PictureMemory``.
        memory_mb: MiB that may be taken beyond what is held now, where the system holds processes to such limits.
        hwaccel: a device to decode on; None for software.
    """
    # An interrupt at the terminal reaches every process; the scanning one answers it and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = WorkerSettings(memory_mb, hwaccel)
    worker = _Worker(inherited_connection(connection_handle), PictureMemory(memory_handle), settings)
    worker.start()
    if hwaccel is None:
        _limit_memory(memory_mb)
    worker.run()


def _limit_memory(megabytes: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    try:
        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return  # only Linux tells
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


class _Worker:
    """Answers requests; a thread of its own takes them in, and notices when the other process has gone."""

    def __init__(self, connection: Connection[Any, Any], memory: PictureMemory, settings: WorkerSettings) -> None:
        self._connection = connection
        self._memory = memory
        self._settings = settings
        self._requests: SimpleQueue[tuple[Open | Sample | SampleAt | AddSound, Slots]] = SimpleQueue()
        self._reader: VideoReader | None = None
        self._path = ""
        self._progress_at = 0.0
        self._sending = threading.Lock()  # progress is told by every thread that decodes

    def start(self) -> None:
        """Starts to take requests in."""
        threading.Thread(target=self._receive, daemon=True).start()

    def run(self) -> None:
        """Answers requests until the process is ended."""
        self._send(Progress())
        while True:
            request, slots = self._requests.get()
            try:
                if isinstance(request, Open):
                    self._open(request)
                elif isinstance(request, AddSound):
                    self._add_sound(request)
                else:
                    self._sample(request, slots)
            except TorchfakesError as error:
                self._send(Failed(error))
            except MemoryError:
                self._send(Failed(self._too_large()))
            except Exception as error:  # noqa: BLE001 - told over there, where it costs this one file
                reason = " ".join(str(error).split()) or "no message"
                self._send(Failed(DecodeError(f"unexpected {type(error).__name__}: {reason}", path=self._path)))

    def _receive(self) -> None:
        slots: Slots = SimpleQueue()
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # at once, whatever the decoder is doing: nobody waits for it any more
            if isinstance(message, Release):
                slots.put(message.slot)
            elif isinstance(message, Stop):
                slots.put(None)
            else:
                # New for each request: what is still to come for the one before must not reach it.
                slots = SimpleQueue()
                for slot in range(SLOTS):
                    slots.put(slot)
                self._requests.put((message, slots))

    def _send(self, message: object) -> None:
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_S:
            self._progress_at = now
            self._send(Progress())

    def _open(self, request: Open) -> None:
        self._path, self._reader = request.path, None
        if request.folder:
            os.chdir(request.folder)
        self._reader = VideoReader(
            request.path, self._tell_progress, threads=request.threads, hwaccel=self._settings.hwaccel
        )
        self._send(Opened(self._reader.info))

    def _sample(self, request: Sample | SampleAt, slots: Slots) -> None:
        assert self._reader is not None, "a file is opened before its frames are asked for"
        with self._reader as reader:
            if isinstance(request, SampleAt):
                frames = reader.frames_at(request.times_s)
            elif request.sampling is None:
                frames = reader.every_frame()
            else:
                frames = reader.frames(request.sampling)
            self._send(Started())
            for frame in frames:
                slot = slots.get()
                if slot is None:
                    break
                width, height = frame.size
                self._memory.write(slot, frame.pixels)
                self._send(Picture(frame.time_s, frame.index, slot, height, width, frame.damaged, reader.report))
        self._send(Ended(reader.report))

    def _add_sound(self, request: AddSound) -> None:
        assert self._reader is not None, "a file is opened before its sound is asked for"
        added, notes = self._reader.add_sound(request.silent, request.target, request.container)
        self._send(SoundAdded(added, tuple(notes)))

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"too_large: decoding it takes more than {self._settings.memory_mb} MiB of memory",
            path=self._path,
            advice="Raise --memory-limit, or scale the video down first.",
        )
