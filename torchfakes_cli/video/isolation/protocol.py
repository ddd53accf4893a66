"""JSON messages and shared picture memory between the program and its decoding process.

Each message is one line of JSON. The client sends calls, ``{"call": 3, "method": "open", "arguments": {…}}``. The
server answers them in order, each with any number of ``progress`` messages and then one ``result`` or ``error`` (class,
cause and advice), all with the number of the call. Pixels are passed in slots of shared memory.

The server parses untrusted files and may be compromised: the client checks every message and every bound.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import tempfile
import uuid
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.video.options import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from numpy.typing import NDArray

_T = TypeVar("_T")
_hints = cache(get_type_hints)

#: Number of picture slots: one is filled while the other is read.
SLOTS = 2
#: Maximum message size; the metadata of a file need at most a quarter of it.
_MOST_BYTES = 1 << 22


class ProtocolError(Exception):
    """The other process sent an invalid message."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Frame whose pixels are in a slot of the shared memory."""

    time_s: float
    index: int | None
    width: int
    height: int
    damaged: bool

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or self.width * self.height > MAX_PIXELS:
            raise ValueError


def send(stream: FileIO, message: dict[str, Any]) -> None:
    """Send a message, which may hold records; raises OSError where the other process has ended."""
    rest = memoryview(json.dumps(message, default=_json).encode("ascii") + b"\n")
    while rest:
        rest = rest[stream.write(rest) :]


def _json(value: Any) -> Any:
    if isinstance(value, Fraction):
        return value.numerator, value.denominator
    return {field.name: getattr(value, field.name) for field in fields(value)}


def received(stream: FileIO) -> Iterator[dict[str, Any]]:
    """Yield messages until the other process ends.

    Raises:
        ProtocolError: a message is invalid.
    """
    rest = b""
    while block := stream.read(1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _MOST_BYTES:
            raise ProtocolError
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ProtocolError from error
            if not isinstance(message, dict):
                raise ProtocolError
            yield message


def decode(kind: type[_T], value: Any) -> _T:
    """Convert JSON to a record or another value of the given type, and check the types of all parts.

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
    if kind is Fraction:
        return Fraction(value) if type(value) in (int, float) else Fraction(*_decoded(tuple[int, int], value))
    if issubclass(kind, StrEnum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(kind)
    return value


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
        self.handle: int | str
        size = SLOTS * 3 * MAX_PIXELS
        if sys.platform == "win32":
            self.handle = handle or f"torchfakes-{uuid.uuid4().hex}"
            self._memory = mmap.mmap(-1, size, tagname=str(self.handle))
        else:
            self.handle = _nameless_file(size) if handle is None else int(handle)
            self._memory = mmap.mmap(self.handle, size)

    def slot(self, number: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return the H×W×3 picture in a slot, which changes when the other process writes to it."""
        pixels = np.frombuffer(self._memory, np.uint8, height * width * 3, number * 3 * MAX_PIXELS)
        return pixels.reshape(height, width, 3)


def _nameless_file(size: int) -> int:
    """Create an unnamed file, in memory if the system supports it."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    import fcntl

    descriptor = os.memfd_create("torchfakes-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # Sealed, because reading memory that the other process had truncated would kill this one (SIGBUS).
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
