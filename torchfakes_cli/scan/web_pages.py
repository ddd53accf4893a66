"""Videos on web pages: download one with yt-dlp for the duration of its scan.

A page is only opened if the user gives its address.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import (
    StoppedError,
    TooLongError,
    TorchfakesError,
    UnreadableFileError,
    UnsupportedMediaError,
    UsageError,
)
from torchfakes_cli.records import Source

logger = logging.getLogger(__name__)

#: Length in seconds beyond which a video isn't downloaded.
MOST_S = 4 * 3600.0
#: Faces don't get larger in a larger picture that was made from a smaller one, and sound isn't needed.
_FORMAT = "bv*[height<=?1080]/bv*/b"
_ONE = "Give the address of one video, or download the part that matters and scan the file."


class _Log:
    """Log of yt-dlp, whose errors are raised as well."""

    debug = warning = error = staticmethod(logger.debug)


def is_web_page(path: str | PathLike[str]) -> bool:
    """Return True if a path is the address of a web page, and not a file of this machine."""
    return re.match(r"https?://", fspath(path), re.IGNORECASE) is not None and not Path(path).exists()


def need_yt_dlp() -> Any:
    """Import yt-dlp.

    Raises:
        UsageError: it isn't installed.
    """
    try:
        return importlib.import_module("yt_dlp")
    except ImportError as error:
        advice = "Install it: pip install 'torchfakes[url]'."
        raise UsageError("videos on web pages need yt-dlp", advice=advice) from error


def download(url: str, folder: Path, most_bytes: int, stopped: Callable[[], bool]) -> tuple[Path, Source]:
    """Download the video of a web page.

    Args:
        url: address of the page.
        folder: folder for the file.
        most_bytes: largest accepted size in bytes.
        stopped: called during the download, which is given up when it returns True.

    Returns:
        Path of the file, and what the page tells about it.

    Raises:
        UsageError: yt-dlp isn't installed.
        MediaError: the page can't be read, or its video is too large, too long or live.
        StoppedError: ``stopped`` returned True.
    """
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
    """Return the only video of a page, after a check of its length."""
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
