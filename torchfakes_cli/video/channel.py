"""What the scanning process and the decoding process share: messages, the connection, and memory for pictures.

A request from the scanning process is answered by exactly one ``Opened``, ``Started``, ``SoundAdded`` or ``Failed``.
After ``Started`` come ``Picture`` messages, and ``Ended`` or ``Failed`` closes them. ``Progress`` may come at any time.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import uuid
from dataclasses import dataclass
from multiprocessing import connection as connections
from typing import TYPE_CHECKING, Any

import numpy as np

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.records import DecodeReport, VideoInfo
from torchfakes_cli.video.limits import MAX_PIXELS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from torchfakes_cli.config import SamplingConfig

#: Pictures on their way at once: one is filled while the other is read.
SLOTS = 2

_SLOT_BYTES = 3 * MAX_PIXELS


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the decoding process is told when it starts; see ``IsolatedDecoder``."""

    memory_mb: int
    hwaccel: str | None


@dataclass(frozen=True, slots=True)
class Open:
    """Asks for a file, whose path may be relative to the folder, to be decoded by so many threads."""

    path: str
    folder: str
    threads: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """Asks for frames of the open file; None for all of them."""

    sampling: SamplingConfig | None


@dataclass(frozen=True, slots=True)
class AddSound:
    """Asks for the open file's sound to be added to a clip; see ``VideoReader.add_sound``. The paths are absolute."""

    silent: str
    target: str
    container: str


@dataclass(frozen=True, slots=True)
class SampleAt:
    """Asks for the frames of the open file that are nearest to some times, in seconds, increasing."""

    times_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Tells that the picture in a slot has been taken."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Tells that no more frames are wanted."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Tells that work goes on; the first one, that the process is ready."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The file is open."""

    info: VideoInfo


@dataclass(frozen=True, slots=True)
class Started:
    """Frames will follow."""


@dataclass(frozen=True, slots=True)
class SoundAdded:
    """Whether there is a new file with sound, and what a user should know of the sound."""

    added: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame, whose pixels lie in a slot."""

    time_s: float
    index: int | None
    slot: int
    height: int
    width: int
    damaged: bool
    report: DecodeReport


@dataclass(frozen=True, slots=True)
class Ended:
    """There are no more frames."""

    report: DecodeReport


@dataclass(frozen=True, slots=True)
class Failed:
    """The request can't be met, or no longer."""

    error: TorchfakesError


class PictureMemory:
    """Memory that both processes see, in slots that are each large enough for any picture.

    Memory that no picture has touched takes no room. It has no name where the system can do without, so nothing stays
    behind, however the processes end.

    Args:
        handle: of memory that another process made; None makes it.

    Attributes:
        handle: by which the other process finds it: a file descriptor, on Windows a name.
    """

    def __init__(self, handle: int | str | None = None) -> None:
        size = SLOTS * _SLOT_BYTES
        if sys.platform == "win32":
            self.handle: int | str = handle or f"torchfakes-{uuid.uuid4().hex}"
            self._memory = mmap.mmap(-1, size, tagname=str(self.handle))
        else:
            descriptor = _nameless_file(size) if handle is None else int(handle)
            self.handle = descriptor
            self._memory = mmap.mmap(descriptor, size)

    def release_handle(self) -> None:
        """Gives the handle back, once the other process has its own; the memory stays."""
        if isinstance(self.handle, int):
            os.close(self.handle)

    def write(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Puts an H×W×3 picture into a slot."""
        height, width, _ = pixels.shape
        np.copyto(self._view(slot, height, width), pixels)

    def read(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        """A copy of the picture in a slot."""
        return self._view(slot, height, width).copy()

    def _view(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        size = height * width * 3
        if size > _SLOT_BYTES:
            raise MemoryError
        view = np.frombuffer(self._memory, np.uint8, size, slot * _SLOT_BYTES)
        return view.reshape(height, width, 3)


def _nameless_file(size: int) -> int:
    """The descriptor of a file that is in no folder: in memory where the system has such files."""
    create = getattr(os, "memfd_create", None)
    if create is not None:
        descriptor: int = create("torchfakes-pictures")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def inherited_connection(handle: int) -> Connection[Any, Any]:
    """The end of a pipe that this process was given when it started."""
    # Of a class of its own on Windows, with the same methods.
    if sys.platform == "win32":
        return connections.PipeConnection(handle)
    return connections.Connection(handle)
