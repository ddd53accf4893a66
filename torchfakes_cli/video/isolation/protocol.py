"""JSON messages and shared picture memory between the program and its decoding process.

The client sends calls, ``{"call": 3, "method": "open", "arguments": {…}}``. The server answers each with any number of
``item`` and ``progress`` messages and then one ``result`` or ``error``, all with the number of the call. The pixels of
an item stay in a slot of the shared memory until the client sends ``{"call": 3, "free": slot}``. The message
``{"call": 3, "stop": true}`` requests the end of the items.

The server parses untrusted files and may be compromised: the client checks every message and every bound.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import fields, is_dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cache
from multiprocessing import connection as connections
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from torchfakes_cli import errors
from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.video.limits import MAX_PIXELS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

_T = TypeVar("_T")

#: Number of picture slots: one is filled while the other is read.
SLOTS = 2
_SLOT_BYTES = 3 * MAX_PIXELS

_HEADER = struct.Struct("!I")
#: Maximum message size; the metadata of a file need at most a quarter of it.
_MOST_BYTES = 1 << 22


class ProtocolError(Exception):
    """The other process sent an invalid message."""


class Channel:
    """Sends and receives JSON objects over one end of a pipe; sending is thread-safe.

    On POSIX a message is its length in four bytes followed by its text. Partial messages are buffered without blocking,
    so that an incomplete message can't stall the reader. Windows pipes preserve message boundaries.
    """

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._received = bytearray()
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message.

        Raises:
            OSError: the other process has ended.
        """
        text = json.dumps(message).encode("ascii")
        with self._sending:
            if sys.platform == "win32":
                self._connection.send_bytes(text)
                return
            rest = memoryview(_HEADER.pack(len(text)) + text)
            while rest:
                rest = rest[os.write(self._connection.fileno(), rest) :]

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Returns the next message, or None if none arrives in time.

        Raises:
            EOFError: the other process has ended.
            OSError: the other process has ended.
            ProtocolError: the message is invalid.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (text := self._whole()) is None:
            if not self._connection.poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
                return None
            if sys.platform == "win32":
                text = self._connection.recv_bytes(_MOST_BYTES)
                break
            received = os.read(self._connection.fileno(), 1 << 16)
            if not received:
                raise EOFError
            self._received += received
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProtocolError from error
        if not isinstance(message, dict):
            raise ProtocolError
        return message

    def _whole(self) -> bytes | None:
        """Removes one complete message from the buffer; returns None if there is none."""
        if len(self._received) < _HEADER.size:
            return None
        (size,) = _HEADER.unpack_from(self._received)
        if size > _MOST_BYTES:
            raise ProtocolError
        end = _HEADER.size + size
        if len(self._received) < end:
            return None
        text = bytes(self._received[_HEADER.size : end])
        del self._received[:end]
        return text

    def close(self) -> None:
        """Closes this end."""
        self._connection.close()


def inherited_channel(handle: int) -> Channel:
    """Opens the end of a pipe that this process inherited."""
    if sys.platform == "win32":
        return Channel(connections.PipeConnection(handle))
    return Channel(connections.Connection(handle))


def encode(value: Any) -> Any:
    """Converts a record, number, text or sequence to JSON values."""
    if is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [encode(each) for each in value]
    return str(value) if isinstance(value, Fraction) else value


def decode(kind: type[_T], value: Any) -> _T:
    """Converts JSON to a record or another value of the given type, and checks the types of all parts.

    Raises:
        ProtocolError: the value has another type.
    """
    try:
        decoded: _T = _decoded(kind, value)
    except (KeyError, TypeError, ValueError, ArithmeticError, TorchfakesError) as error:
        raise ProtocolError from error
    return decoded


def _decoded(kind: Any, value: Any) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (part for part in parts if part is not NoneType)
        return None if value is None else _decoded(inner, value)
    if origin is tuple and isinstance(value, list):
        kinds = parts[:1] * len(value) if parts[-1] is ... else parts
        return tuple(_decoded(part, each) for part, each in zip(kinds, value, strict=True))
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _decoded(hint, value[name]) for name, hint in _hints(kind).items()})
    if kind is float and type(value) is int:
        return float(value)
    if kind is Fraction or issubclass(kind, StrEnum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(kind)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


_ERRORS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TorchfakesError)
}


def encode_error(error: TorchfakesError) -> dict[str, Any]:
    """Converts an error to JSON values."""
    return {"kind": type(error).__name__, "cause": error.cause, "path": error.path, "advice": error.advice}


def decode_error(value: Any) -> TorchfakesError:
    """Converts JSON to an error.

    Raises:
        ProtocolError: the value isn't a valid error.
    """
    try:
        kind, path = _ERRORS[value["kind"]], decode(str | None, value["path"])  # type: ignore[arg-type]
        return kind(decode(str, value["cause"]), path=path, advice=decode(str, value["advice"]))
    except (KeyError, TypeError) as error:
        raise ProtocolError from error


class PictureMemory:
    """Shared memory for pictures, in slots that each hold a picture of any size up to ``MAX_PIXELS``.

    Pages are allocated on first write. Outside Windows the memory has no name, so nothing remains after both processes
    end, even if they crash.

    Args:
        handle: handle of existing memory from the other process; None creates new memory.

    Attributes:
        handle: identifier for the other process: a file descriptor, or a name on Windows.
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
        """Closes the handle after the other process has inherited it; the memory remains mapped."""
        if isinstance(self.handle, int):
            os.close(self.handle)

    def write(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Writes an H×W×3 picture to a slot."""
        height, width, _ = pixels.shape
        np.copyto(self._view(slot, height, width), pixels)

    def read(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        """Returns a copy of the picture in a slot.

        Raises:
            ProtocolError: the slot doesn't exist, or the picture doesn't fit.
        """
        if not 0 <= slot < SLOTS or height < 1 or width < 1 or height * width * 3 > _SLOT_BYTES:
            raise ProtocolError
        return self._view(slot, height, width).copy()

    def _view(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        size = height * width * 3
        if size > _SLOT_BYTES:
            raise MemoryError
        view = np.frombuffer(self._memory, np.uint8, size, slot * _SLOT_BYTES)
        return view.reshape(height, width, 3)


def _nameless_file(size: int) -> int:
    """Creates an unnamed file, in memory if the system supports it."""
    if hasattr(os, "memfd_create"):
        import fcntl

        descriptor = os.memfd_create("torchfakes-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        # Sealed, because reading memory that the other process had truncated would kill this one (SIGBUS).
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor
    with tempfile.TemporaryFile() as file:
        descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
