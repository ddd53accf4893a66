"""Remote files: list and copy videos in stores that fsspec reads (``s3://bucket/folder``), and copy those of web pages.

A store is contacted only if the user gives its URL. Each video is copied to a private folder for the duration of its
scan, because a decoder seeks in its file and its process has no access to the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError, StoppedError, TorchfakesError, UnreadableFileError, UsageError
from torchfakes_cli.files import temporary_folder
from torchfakes_cli.records import Source
from torchfakes_cli.scan.web_pages import download, is_web_page

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: Protocols of fsspec that don't count as stores: web protocols, and wrappers of other URLs.
_WEB = ("http", "https", "ftp", "data", "jupyter", "jlab", "git", "github", "gist", "dask", "pyscript")
_WRAPPERS = ("zip", "tar", "libarchive", "reference", "generic", "dir", "async_wrapper", "asyncwrapper")
_CACHES = ("cached", "blockcache", "filecache", "simplecache")
_PREFIX = "torchfakes-copy-"
_CHUNK_BYTES = 8 << 20
#: Keys under which stores give the time of the last change.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")

#: Size in bytes and time of change in ns; None where the store doesn't give it.
State = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """File or folder in a store.

    Attributes:
        name: last part of its path.
        is_folder: True for a folder.
        state: size and time of change of a file.
    """

    name: str
    is_folder: bool
    state: State


@dataclass(frozen=True, slots=True)
class Copy:
    """File on this machine that is scanned.

    Attributes:
        path: path of the file.
        source: web page from which it was downloaded; None for other files.
    """

    path: str
    source: Source | None = None


def is_url(path: str | PathLike[str]) -> bool:
    """Return True if a path is a URL of a store or a web page, and not a file of this machine."""
    match = _SCHEME.match(fspath(path))
    return is_web_page(path) or (match is not None and match[1] in _stores() and not Path(path).exists())


def is_folder(url: str) -> bool:
    """Return True if a URL is that of a folder.

    Raises:
        UsageError: a package is missing.
        UnreadableFileError: the store can't be reached.
    """
    if is_web_page(url):
        return False
    store, path = _opened(url)
    with _translated(url):
        return bool(store.isdir(path))


def entries(url: str) -> list[Entry]:
    """List a folder, sorted by name; links are left out, because they may form loops.

    Raises:
        UsageError: a package is missing.
        UnreadableFileError: the folder can't be listed.
    """
    store, path = _opened(url)
    with _translated(url):
        found = store.ls(path, detail=True)
    return sorted(
        (
            Entry(PurePosixPath(each["name"]).name, each["type"] == "directory", _state(each))
            for each in found
            # Some stores list a folder in itself, as an empty object that represents it.
            if each["name"].strip("/") != path.strip("/") and not each.get("islink")
        ),
        key=lambda entry: entry.name,
    )


def state_of(url: str) -> State:
    """Return size and time of change of a file; None for those that its store doesn't give, or for a web page."""
    if is_web_page(url):
        return None, None
    try:
        store, path = _opened(url)
        with _translated(url):
            return _state(store.info(path))
    except TorchfakesError:
        return None, None


@contextmanager
def local_copy(url: str, most_bytes: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[Copy]:
    """Copy a file for the duration of the block; errors in the block name the URL.

    Args:
        url: URL of the file.
        most_bytes: largest accepted size in bytes.
        stopped: called between chunks; the copy is given up when it returns True.

    Yields:
        The copy.

    Raises:
        MediaError: the file doesn't exist, can't be read or is too large.
        UsageError: a package is missing.
        OutputError: the copy can't be written.
        StoppedError: ``stopped`` returned True.
    """
    with temporary_folder(_PREFIX) as folder:
        if is_web_page(url):
            target, source = download(url, folder, most_bytes, stopped)
        else:
            # Only the suffix matters, and stores allow names that file systems don't.
            ending = PurePosixPath(url).suffix
            target = folder / f"clip{ending if re.fullmatch(r'[.][A-Za-z0-9]{1,8}', ending) else ''}"
            source = None
            _copy(url, target, most_bytes, stopped)
        try:
            yield Copy(str(target), source)
        except TorchfakesError as error:
            if error.path == str(target):
                error.path = url
            raise


def _copy(url: str, target: Path, most_bytes: int, stopped: Callable[[], bool]) -> None:
    store, path = _opened(url)
    room = most_bytes
    with _translated(url), store.open(path, "rb", block_size=_CHUNK_BYTES) as source, target.open("wb") as file:
        while part := source.read(_CHUNK_BYTES):
            if stopped():
                raise StoppedError("the copy was stopped", path=url)
            room -= len(part)
            if room < 0:
                raise UnreadableFileError(
                    f"it is larger than {most_bytes >> 20} MiB, the limit of copies",
                    path=url,
                    advice="Raise --max-download-size.",
                )
            try:
                file.write(part)
            except OSError as error:
                raise OutputError(
                    f"it can't be copied to this machine: {error.strerror or error}",
                    path=url,
                    advice="Set TMPDIR to a folder with free space.",
                ) from error


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Translate errors of a store's library into errors of this package."""
    try:
        yield
    except TorchfakesError:
        raise
    except FileNotFoundError as error:
        raise UnreadableFileError("there is no such file", path=url) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableFileError(
            f"its store can't be read: {reason}", path=url, advice="Check the address and the access to it."
        ) from error


def _opened(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the store of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        # Each folder is listed once, so that a cache of listings would only use memory.
        store, path = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        raise UsageError(
            f"{scheme}:// can't be read: {' '.join(str(error).split())}",
            path=url,
            advice="For s3:// and gs://: pip install 'torchfakes[remote]'.",
        ) from error
    return store, str(path)


def _state(facts: dict[str, object]) -> State:
    size = facts.get("size")
    time = next((facts[name] for name in _TIMES if facts.get(name) is not None), None)
    return size if isinstance(size, int) else None, _nanoseconds(time)


def _nanoseconds(time: object) -> int | None:
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return None
    if isinstance(time, datetime):
        time = time.timestamp()
    return round(time * 1e9) if isinstance(time, int | float) else None


@cache
def _stores() -> frozenset[str]:
    try:
        from fsspec import available_protocols
    except ModuleNotFoundError:
        return frozenset()
    return frozenset(available_protocols()).difference(_WEB, _WRAPPERS, _CACHES)
