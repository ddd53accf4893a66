"""Uploads: stream a clip, sent as a raw body or in a form, to disk within limits."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncGenerator
from http import HTTPStatus

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.serve.service import Job

#: Largest number of bytes in a form besides its file.
_FORM_BYTES = 1 << 16
#: Smallest average rate in bytes per second of an upload that has lasted longer than the idle time.
_SLOWEST = 4096
_LONGEST_NAME = 200
_FORM = "multipart/form-data"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")


def shown_name(given: str) -> str:
    r"""Return the last part of a client's file name, without terminal controls and marks that reorder text.

    Example:
        >>> shown_name("C:\\clips\\a\u202eb.mp4"), shown_name("../..")
        ('ab.mp4', 'clip')
    """
    last = re.split(r"[/\\]", given)[-1]
    shown = "".join(character for character in last if character.isprintable()).strip()
    return "clip" if shown in ("", ".", "..") else shown[-_LONGEST_NAME:]


async def receive_clip(request: Request, job: Job, name: str | None, config: ServeConfig) -> None:
    """Write the clip of a request to the file of its job; after an error the caller deletes the file.

    The job gets the clip's name (from the query if given there) and size, and its path the clip's suffix, because some
    formats are recognized by it. Limits are enforced while the body is read and don't rely on its headers.

    Raises:
        HTTPException: the request is invalid or exceeds a limit; it has the status of the response.
        ClientDisconnect: the client has disconnected.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    is_form = kind == _FORM
    if kind and not is_form and kind != "application/octet-stream" and not kind.startswith(("video/", "image/")):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"a clip comes as {_FORM}, application/octet-stream, video/* or image/*. With curl: -F file=@clip.mp4.",
        )
    body = _body(request, config, config.max_bytes + (_FORM_BYTES if is_form else 0))
    try:
        with job.path.open("wb") as file:
            if is_form:
                given = await _file_in_form(request, body)
                await asyncio.to_thread(shutil.copyfileobj, given.file, file, 1 << 20)
                await given.close()
                name = name or given.filename
            else:
                async for chunk in body:
                    await asyncio.to_thread(file.write, chunk)
            job.size = file.tell()
        if job.size > config.max_bytes:
            raise _too_large(config)
        job.name = shown_name(name or "")
        if not job.size:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{job.name}: empty file. Copy or download it again.")
        if suffix := _SUFFIX.search(job.name):
            job.path = job.path.rename(job.path.with_suffix(suffix[0].lower()))
    except OSError as error:
        raise HTTPException(
            HTTPStatus.INSUFFICIENT_STORAGE, f"the clip can't be stored: {error.strerror or 'unknown reason'}"
        ) from error


async def _body(request: Request, config: ServeConfig, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of the body; raise if it is too large or too slow."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > most:
        raise _too_large(config)
    too_slow = HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the upload is too slow, or has stopped. Try it again.")
    started = time.monotonic()
    size = 0
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(config.idle_s):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise too_slow from None
        if chunk is None:
            return
        size += len(chunk)
        if size > most:
            raise _too_large(config)
        if (lasted := time.monotonic() - started) > config.idle_s and size < _SLOWEST * lasted:
            raise too_slow
        yield chunk


def _too_large(config: ServeConfig) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the clip is larger than {config.max_size_mb:g} MiB. Cut it to the part that matters.",
    )


class _Parser(MultiPartParser):
    """Parser that records the end of the form, because Starlette's doesn't detect a truncated one."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _file_in_form(request: Request, body: AsyncGenerator[bytes, None]) -> UploadFile:
    """Return the only file in a form, from a field of any name; it is an anonymous temporary file."""
    parser = _Parser(request.headers, body, max_part_size=_FORM_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        large = "exceeded" in error.message
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.BAD_REQUEST
        raise HTTPException(status, f"the form is malformed: {error.message}") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if parser.ended and len(files) == 1:
        return files[0]
    await form.close()
    if not parser.ended:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the form is malformed: it ends too early")
    wrong = "more than one file. Send one a request." if files else "no file. With curl: -F file=@clip.mp4."
    raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"the form holds {wrong}")
