"""Server in the decoding process: answers the calls of its parent process, one file after another."""

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
from torchfakes_cli.video.encode import add_sound
from torchfakes_cli.video.isolation import sandbox
from torchfakes_cli.video.isolation.protocol import (
    SLOTS,
    Channel,
    PictureMemory,
    decode,
    encode,
    encode_error,
    inherited_channel,
)
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchfakes_cli.records import Frame

    # Free slots; None requests the end of the items.
    Slots = SimpleQueue[int | None]

#: Minimum seconds between progress messages.
_PROGRESS_S = 0.1


def main(channel_handle: int, memory_handle: int | str, memory_mb: int, hwaccel: str | None) -> None:
    """Runs until the parent process closes the channel or ends.

    Args:
        channel_handle: handle of this process's end of the channel.
        memory_handle: handle of the ``PictureMemory``.
        memory_mb: MiB that may be allocated in addition to the current memory, if the system supports such limits.
        hwaccel: FFmpeg's name of a device to decode on; None for software.
    """
    # An interrupt at the terminal reaches all processes; the client handles it and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel, memory = inherited_channel(channel_handle), PictureMemory(memory_handle)
    # No restrictions with a device: drivers write to device files and reserve far more address space than memory.
    enforced = sandbox.apply() if hwaccel is None else ()
    server = _Server(channel, memory, memory_mb, hwaccel)
    server.start()
    if hwaccel is None and _limit_memory(memory_mb):
        enforced += ("memory",)
    server.run(enforced)


def _limit_memory(megabytes: int) -> bool:
    """Limits this process's memory if its current size is known; returns whether it is limited."""
    if sys.platform == "win32":
        return False
    import resource

    try:
        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return False  # not Linux
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return True


class _Server:
    """Answers calls; a separate thread receives them and detects the end of the client."""

    def __init__(self, channel: Channel, memory: PictureMemory, memory_mb: int, hwaccel: str | None) -> None:
        self._channel = channel
        self._memory = memory
        self._memory_mb = memory_mb
        self._hwaccel = hwaccel
        self._calls: SimpleQueue[tuple[dict[str, Any], Slots]] = SimpleQueue()
        self._call = 0
        self._slots: Slots = SimpleQueue()
        self._reader: VideoReader | None = None
        self._frames: Iterator[Frame] = iter(())
        self._path = ""
        self._progress_at = 0.0
        self._methods: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "sample": self._sample,
            "read": self._read,
            "describe": self._describe,
            "add_sound": self._add_sound,
        }

    def start(self) -> None:
        """Starts receiving calls."""
        threading.Thread(target=self._receive, daemon=True).start()

    def run(self, enforced: tuple[str, ...]) -> None:
        """Reports readiness and the enforced restrictions, then answers calls until the process ends."""
        self._send("result", {"enforced": list(enforced)})
        while True:
            message, self._slots = self._calls.get()
            self._call = message["call"]
            try:
                answer = "result", self._methods[message["method"]](**message["arguments"])
            except TorchfakesError as error:
                answer = "error", encode_error(error)
            except MemoryError:
                answer = "error", encode_error(self._too_large())
            except Exception as error:  # noqa: BLE001 - reported to the client, where it fails only this file
                reason = " ".join(str(error).split()) or "no message"
                unexpected = DecodeError(f"unexpected {type(error).__name__}: {reason}", path=self._path)
                answer = "error", encode_error(unexpected)
            self._send(*answer)

    def _receive(self) -> None:
        slots: Slots = SimpleQueue()
        while True:
            try:
                message = self._channel.receive()
            except (EOFError, OSError):
                os._exit(0)  # immediately, even while decoding, because the client is gone
            assert message is not None, "it waits for ever"
            if "free" in message:
                slots.put(message["free"])
            elif "stop" in message:
                slots.put(None)
            else:
                # A new queue for each call, so that late messages for the previous call can't reach it.
                slots = SimpleQueue()
                for slot in range(SLOTS):
                    slots.put(slot)
                self._calls.put((message, slots))

    def _send(self, kind: str, body: Any) -> None:
        try:
            self._channel.send({"call": self._call, kind: body})
        except OSError:
            os._exit(0)

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_S:
            self._progress_at = now
            self._send("progress", True)

    def _enter(self, path: str, folder: str) -> None:
        self._path, self._reader = path, None
        if folder:
            os.chdir(folder)

    def _open(self, path: str, folder: str, threads: int | None) -> Any:
        self._enter(path, folder)
        self._reader = reader = VideoReader(path, self._progress, threads=threads, hwaccel=self._hwaccel)
        return {"info": encode(reader.info), "sound_start_s": reader.sound_start_s}

    def _sample(self, sampling: Any = None, times_s: list[float] | None = None) -> Any:
        """Selects the frames of a ``SamplingConfig``, the frames nearest to given times, or all frames."""
        reader = self._reader
        assert reader is not None, "a file is opened before its frames are asked for"
        reader.close()
        if sampling is not None:
            self._frames = reader.frames(decode(SamplingConfig, sampling))
        else:
            self._frames = reader.every_frame() if times_s is None else reader.frames_at(times_s)
        return encode(reader.report)

    def _read(self) -> Any:
        """Decodes the selected frames and sends each as an item."""
        reader = self._reader
        assert reader is not None, "a file is opened before its frames are read"
        with reader:
            for frame in self._frames:
                slot = self._slots.get()
                if slot is None:
                    break
                width, height = frame.size
                self._memory.write(slot, frame.pixels)
                item = {"slot": slot, "size": [width, height], "damaged": frame.damaged}
                self._send("item", {"time_s": frame.time_s, "index": frame.index, **item})
        return encode(reader.report)

    def _describe(self, path: str, folder: str) -> Any:
        from torchfakes_cli.video.metadata import describe_file  # loaded lazily, because few scans need it

        self._enter(path, folder)
        return encode(describe_file(path, self._progress))

    def _add_sound(
        self, path: str, folder: str, start_s: float | None, silent: str, target: Any, container: str
    ) -> Any:
        self._enter(path, folder)
        added, notes = add_sound(silent, path, target, zero_s=start_s, container=container, on_packet=self._progress)
        return {"added": added, "notes": notes}

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"too_large: decoding it takes more than {self._memory_mb} MiB of memory",
            path=self._path,
            advice="Raise --memory-limit, or scale the video down first.",
        )
