"""Remote files: list and copy videos in stores that fsspec reads (``s3://bucket/folder``), and copy those of web pages.

A store or a page is contacted only if the user gives its address. Each video is copied to a private folder for the
duration of its scan, because a decoder seeks in its file and its process has no access to the network. yt-dlp downloads
the videos of web pages.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from torchfakes_cli.errors import (
    OutputError,
    StoppedError,
    TooLongError,
    TorchfakesError,
    UnreadableFileError,
    UnsupportedMediaError,
    UsageError,
)
from torchfakes_cli.files import temporary_folder
from torchfakes_cli.records import Source

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: Protocols of fsspec that don't count as stores: web protocols, and wrappers of other URLs.
_NO_STORES = (
    *("http", "https", "ftp", "data", "jupyter", "jlab", "git", "github", "gist", "dask", "pyscript"),
    *("zip", "tar", "libarchive", "reference", "generic", "dir", "async_wrapper", "asyncwrapper"),
    *("cached", "blockcache", "filecache", "simplecache"),
)
_PREFIX = "torchfakes-copy-"
_CHUNK_BYTES = 8 << 20
#: Keys under which stores give the time of the last change.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")

#: Length in seconds beyond which a video isn't downloaded.
MOST_S = 4 * 3600.0
#: Faces don't get larger in a larger picture that was made from a smaller one, and sound isn't needed.
_FORMAT = "bv*[height<=?1080]/bv*/b"
_ONE = "Give the address of one video, or download the part that matters and scan the file."

#: Size in bytes and time of change in ns; None where the store doesn't give it.
State = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """File or folder in a store or on this machine.

    Attributes:
        name: last part of its path.
        is_folder: True for a folder.
        state: size and time of change of a remote file; None for a local one.
    """

    name: str
    is_folder: bool
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """File on this machine that is scanned, and the web page from which it was downloaded, if any."""

    path: str
    source: Source | None = None


def is_url(path: str | PathLike[str]) -> bool:
    """Return True if a path is the URL of a store or a web page, and not a file of this machine."""
    match = _SCHEME.match(fspath(path))
    return is_web_page(path) or (match is not None and match[1] in _stores() and not Path(path).exists())


def is_web_page(path: str | PathLike[str]) -> bool:
    """Return True if a path is the address of a web page, and not a file of this machine."""
    return re.match(r"https?://", fspath(path), re.IGNORECASE) is not None and not Path(path).exists()


def is_folder(url: str) -> bool:
    """Return True if a URL is that of a folder; errors as in ``entries``."""
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
    """Copy the file at a URL for the duration of the block; errors in the block name the URL.

    Args:
        url: URL of a file in a store, or of a web page with one video.
        most_bytes: largest accepted size in bytes.
        stopped: called between chunks; the copy is given up when it returns True.

    Raises:
        MediaError: there is no such file or video, or it can't be read, is too large, too long or live.
        UsageError: a package is missing.
        OutputError: the copy can't be written.
        StoppedError: ``stopped`` returned True.
    """
    with temporary_folder(_PREFIX) as folder:
        if is_web_page(url):
            target, source = _download(url, folder, most_bytes, stopped)
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
    from fsspec import available_protocols

    return frozenset(available_protocols()).difference(_NO_STORES)


class _Log:
    """Log of yt-dlp, whose errors are raised as well."""

    debug = warning = error = staticmethod(logger.debug)


def need_yt_dlp() -> Any:
    """Import yt-dlp; raise a ``UsageError`` if it isn't installed."""
    try:
        return importlib.import_module("yt_dlp")
    except ImportError as error:
        advice = "Install it: pip install 'torchfakes[url]'."
        raise UsageError("videos on web pages need yt-dlp", advice=advice) from error


def _download(url: str, folder: Path, most_bytes: int, stopped: Callable[[], bool]) -> tuple[Path, Source]:
    """Download the video of a web page; return the path of the file, and what the page tells about it."""
    yt_dlp = need_yt_dlp()
    too_large = UnreadableFileError(
        f"its video is larger than {most_bytes >> 20} MiB", path=url, advice="Raise --max-download-size."
    )

    def check(state: dict[str, Any]) -> None:
        if stopped():
            raise StoppedError("the download was stopped", path=url)
        if (state.get("downloaded_bytes") or 0) > most_bytes:
            raise too_large

    options = {
        "format": _FORMAT,
        "outtmpl": {"default": "clip.%(ext)s"},
        "paths": {"home": str(folder)},
        "playlist_items": "1:2",
        "noplaylist": True,
        "max_filesize": most_bytes,
        "progress_hooks": [check],
        "logger": _Log,
        "noprogress": True,
        "cachedir": False,
        "fixup": "never",
        "hls_prefer_native": True,
        "socket_timeout": 20,
        "retries": 3,
    }
    try:
        with yt_dlp.YoutubeDL(options) as client:
            video = _only_video(client.extract_info(url, download=False), url)
            client.process_ie_result(video, download=True)
    except TorchfakesError:
        raise
    except Exception as error:
        reason = re.sub(r"\x1b\[[0-9;]*m|^ERROR: ", "", " ".join(str(error).split())) or type(error).__name__
        raise UnreadableFileError(
            f"no video can be downloaded: {re.split(r'; please report| [(]caused by', reason)[0]}",
            path=url,
            advice="Check the address, or update yt-dlp: pip install -U yt-dlp.",
        ) from error
    path = next(folder.glob("clip.*"), None)
    if path is None:  # yt-dlp only logs that a file is larger than the limit
        raise too_large
    return path, _source(video, url)


def _only_video(found: dict[str, Any], url: str) -> dict[str, Any]:
    """Return the only video of a page, if it is recorded and not too long."""
    videos = list(found["entries"]) if "entries" in found else [found]
    if len(videos) != 1:
        many = "several videos" if videos else "no video"
        raise UnsupportedMediaError(f"the page has {many}", path=url, advice=_ONE)
    video: dict[str, Any] = videos[0]
    if video.get("is_live"):
        raise UnsupportedMediaError("the video is a live stream", path=url, advice=_ONE)
    if (video.get("duration") or 0) > MOST_S:
        raise TooLongError(f"the video is longer than {MOST_S / 3600:g} hours", path=url, advice=_ONE)
    return video


def _source(video: dict[str, Any], url: str) -> Source:
    date = str(video.get("upload_date") or "")
    return Source(
        page=str(video.get("webpage_url") or url),
        site=str(video.get("extractor_key") or ""),
        id=str(video.get("id") or ""),
        title=str(video.get("title") or ""),
        uploader=str(video.get("uploader") or video.get("channel") or ""),
        uploaded=f"{date[:4]}-{date[4:6]}-{date[6:]}" if re.fullmatch(r"\d{8}", date) else "",
    )
