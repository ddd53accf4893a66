"""Receives a clip, a raw body or the file of a form, and writes it to disk as it comes, within limits."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from torchfakes_cli.config import ServeConfig
from torchfakes_cli.serve.problems import ProblemError

#: Bytes gathered before they are written.
_BLOCK = 1 << 20
#: Bytes that a form may hold besides its file.
_FORM_BYTES = 1 << 16
#: Bytes a second below which an upload that has lasted for the idle time is given up.
_SLOWEST = 4096
_LONGEST_NAME = 200
_FORM = "multipart/form-data"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")


@dataclass(frozen=True, slots=True)
class Received:
    """A clip that has come.

    Attributes:
        name: what the client calls it, in characters that can be shown.
        path: where it lies.
        size: in bytes.
    """

    name: str
    path: Path
    size: int


def shown_name(given: str) -> str:
    r"""The last part of a client's file name, without what steers terminals or reorders text.

    Example:
        >>> shown_name("C:\\clips\\a\u202eb.mp4"), shown_name("../..")
        ('ab.mp4', 'clip')
    """
    last = re.split(r"[/\\]", given)[-1]
    shown = "".join(character for character in last if character.isprintable()).strip()
    return "clip" if shown in ("", ".", "..") else shown[-_LONGEST_NAME:]


async def receive_clip(request: Request, place: Path, name: str | None, config: ServeConfig) -> Received:
    """Writes the clip of a request to disk; what was written of one that is refused is for the caller to delete.

    Args:
        request: whose body hasn't been read.
        place: path to write to; the clip's suffix, by which some formats are told, is added.
        name: of the clip, where the query gives one.
        config: the limits. They are held to while the body is read, whatever its headers claim.

    Raises:
        ProblemError: with the status that the client is to be answered.
        ClientDisconnect: the client has gone.
    """
    sink = _Sink(config.max_bytes)
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    form: _Form | None = None
    feed: Callable[[bytes], None]
    if kind == _FORM.encode():
        form = _Form(parameters.get(b"boundary", b""), sink)
        feed = form.feed
    elif kind and kind != b"application/octet-stream" and not kind.startswith((b"video/", b"image/")):
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"a clip comes as {_FORM}, application/octet-stream, video/* or image/*. With curl: -F file=@clip.mp4.",
        )
    else:
        feed = sink.take
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > config.max_bytes + (_FORM_BYTES if form else 0):
        raise sink.too_large()
    try:
        with place.open("wb") as file:
            async for chunk in _chunks(request, config.idle_s):
                feed(chunk)
                if sink.waiting_bytes >= _BLOCK:
                    await asyncio.to_thread(file.writelines, sink.waiting())
            await asyncio.to_thread(file.writelines, sink.waiting())
        shown = shown_name(name or (form.complete() if form else ""))
        if not sink.size:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{shown}: empty file. Copy or download it again.")
        suffix = _SUFFIX.search(shown)
        return Received(shown, place.rename(place.with_suffix(suffix[0].lower())) if suffix else place, sink.size)
    except FormParserError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the form is malformed") from error
    except OSError as error:
        raise ProblemError(
            HTTPStatus.INSUFFICIENT_STORAGE, f"the clip can't be stored: {error.strerror or 'unknown reason'}"
        ) from error


async def _chunks(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    """The body as it comes; ends with a problem where it comes too slowly."""
    started = time.monotonic()
    size = 0
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise _too_slow() from None
        if chunk is None:
            return
        size += len(chunk)
        if (lasted := time.monotonic() - started) > idle_s and size < _SLOWEST * lasted:
            raise _too_slow()
        yield chunk


def _too_slow() -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_TIMEOUT, "the upload is too slow, or has stopped. Try it again.")


class _Sink:
    """Holds what waits to be written, and counts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[bytes] = []
        self.waiting_bytes = 0
        self.size = 0

    def too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the clip is larger than {self._most / (1 << 20):g} MiB. Cut it to the part that matters.",
        )

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._most:
            raise self.too_large()
        self._waiting.append(data)
        self.waiting_bytes += len(data)

    def waiting(self) -> list[bytes]:
        """What waits, from now on no more."""
        taken, self._waiting, self.waiting_bytes = self._waiting, [], 0
        return taken


class _Form:
    """Finds the one file in a form, whatever its field is called; other fields are ignored."""

    def __init__(self, boundary: bytes, sink: _Sink) -> None:
        if not boundary:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the form's Content-Type names no boundary")
        self._sink = sink
        self._files: list[str] = []
        self._in_file = False
        self._ended = False
        self._field = self._value = b""
        self._disposition = b""
        self._bytes = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_field,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._take_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the form's boundary is malformed") from error

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the form."""
        self._bytes += len(chunk)
        self._parser.write(chunk)
        if self._bytes - self._sink.size > _FORM_BYTES:
            raise self._sink.too_large()

    def complete(self) -> str:
        """The name of the file, once all has come."""
        if not self._ended:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the form ends too early")
        if not self._files:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "the form holds no file. With curl: -F file=@clip.mp4.")
        return self._files[0]

    def _begin_part(self) -> None:
        self._disposition = b""
        self._in_file = False

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _end_headers(self) -> None:
        _, parameters = parse_options_header(self._disposition)
        given = parameters.get(b"filename")
        if given is None:
            return
        if self._files:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "the form holds more than one file. Send one a request."
            )
        self._in_file = True
        self._files.append(given.decode("utf-8", "replace"))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._sink.take(data[start:end])

    def _end(self) -> None:
        self._ended = True
