"""Discovery: find the videos in folders, in a reproducible order."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from os import PathLike, fspath
from pathlib import Path

from torchfakes_cli.errors import UnreadableFileError
from torchfakes_cli.scan import remote_files as remote
from torchfakes_cli.video.options import PICTURE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finds:
    """Result of ``find_videos``.

    Attributes:
        videos: paths as given, or below a folder as given; each file once, in order.
        skipped: number of other files in the folders, without hidden files and those in excluded or hidden folders.
        unreadable: folders that couldn't be listed, each as (path, reason).
        states: size and time of change of remote files, by URL.
        duplicates: further paths of files in ``videos`` (another spelling, or a link), mapped to the path there.
        hidden: number of hidden folders and AppleDouble files that were left out.
        unmatched: globs of ``include`` that matched no video or picture.
    """

    videos: tuple[str, ...]
    skipped: int
    unreadable: tuple[tuple[str, str], ...]
    states: dict[str, remote.State] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    hidden: int = 0
    unmatched: tuple[str, ...] = ()


def find_videos(
    paths: Iterable[str | PathLike[str]],
    *,
    recursive: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Finds:
    """Find the videos and pictures among files and in folders.

    A file given by its path is always included, with any name and even if it doesn't exist; its scan reports the error.
    In folders, videos and pictures are recognized by their suffix. Hidden videos are included, but AppleDouble files of
    macOS (``._clip.mp4``) and hidden folders (``.Trash``, ``.git``) are not. Links to folders are followed, each folder
    once, but not to a folder that contains the link, and not in stores. A file that is reached by several paths is
    included once, under the first.

    Args:
        paths: files and folders, of this machine or as URLs of stores.
        recursive: search subfolders, too.
        include: globs; if any are given, files in folders must match one of them. A glob with a slash is matched
            against the path below the given folder (``day1/*.mp4``; ``*`` matches slashes, too), any other against the
            name.
        exclude: globs of the same form; matching videos are left out, and matching folders are not searched.

    Raises:
        UsageError: a URL needs a package that is missing.
    """
    search = _Search(recursive, include, exclude)
    for path in paths:
        search.take(fspath(path))
    return Finds(
        tuple(search.videos.values()),
        search.skipped,
        tuple(search.unreadable),
        search.states,
        search.duplicates,
        search.hidden,
        tuple(glob for glob in include if glob not in search.matched),
    )


class _Search:
    """State of one ``find_videos`` call: what it has found so far, as in ``Finds``, and the folders visited."""

    def __init__(self, recursive: bool, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._recursive = recursive
        self._include = include
        self._exclude = exclude
        self._visited: set[Path] = set()
        self.videos: dict[str, str] = {}  # by resolved path or URL
        self.duplicates: dict[str, str] = {}
        self.skipped = 0
        self.hidden = 0
        self.matched: set[str] = set()
        self.unreadable: list[tuple[str, str]] = []
        self.states: dict[str, remote.State] = {}

    def take(self, given: str) -> None:
        """Add a file, or all videos in a folder."""
        is_url = remote.is_url(given)
        try:
            folder = remote.is_folder(given) if is_url else _is_folder(Path(given))
        except UnreadableFileError as error:
            self.unreadable.append((given, error.cause))
            return
        if not folder:
            self._add(given, remote.state_of(given) if is_url else None)
            return
        # A stack, because folders may nest deeper than Python's recursion limit.
        stack = [(Path(entry.name), entry) for entry in reversed(self._entries(given, is_url=is_url))]
        while stack:
            below, entry = stack.pop()
            path = f"{given.rstrip('/')}/{below.as_posix()}" if is_url else str(Path(given, below))
            excluded = _matches(below, self._exclude)
            if entry.name.startswith("._") or (entry.name.startswith(".") and entry.is_folder):
                self.hidden += 1
                logger.info("%s is skipped: it is hidden", path)
            elif entry.is_folder:
                if self._recursive and not excluded:
                    found = self._entries(path, is_url=is_url)
                    stack += [(below / each.name, each) for each in reversed(found)]
            elif self._included(below) and not excluded:
                self._add(path, entry.state)
            else:
                self.skipped += 1
                logger.info("%s is skipped: its suffix is no video's or picture's, or it was excluded", path)

    def _add(self, path: str, state: remote.State | None) -> None:
        """Add a local file, or a remote one with its state."""
        if state is not None:
            self.states[path] = state
        taken = self.videos.setdefault(path if state is not None else str(_resolved(Path(path))), path)
        if taken != path:
            self.duplicates[path] = taken

    def _included(self, below: Path) -> bool:
        if below.suffix.lower() not in VIDEO_SUFFIXES | PICTURE_SUFFIXES:
            return False
        matched = {glob for glob in self._include if _matches(below, [glob])}
        self.matched |= matched
        return bool(matched) or not self._include

    def _entries(self, folder: str, *, is_url: bool) -> list[remote.Entry]:
        """List a folder; nothing if it can't be listed, or was listed under another path."""
        try:
            return remote.entries(folder) if is_url else self._local_entries(Path(folder))
        except UnreadableFileError as error:
            self.unreadable.append((folder, error.cause))
        except OSError as error:
            self.unreadable.append((folder, error.strerror or str(error)))
        return []

    def _local_entries(self, folder: Path) -> list[remote.Entry]:
        real = _resolved(folder)
        if real in self._visited:
            return []
        self._visited.add(real)
        upwards = {real, *real.parents}
        paths = sorted(folder.iterdir(), key=os.fsencode)
        return [remote.Entry(path.name, _is_folder(path)) for path in paths if not _leads_to(path, upwards)]


def _matches(below: Path, globs: Iterable[str]) -> bool:
    return any(fnmatch(below.as_posix() if "/" in glob else below.name, glob) for glob in globs)


def _leads_to(entry: Path, folders: set[Path]) -> bool:
    try:
        return entry.is_symlink() and _resolved(entry) in folders
    except OSError:
        return False


def _resolved(path: Path) -> Path:
    """Return the path with links resolved; unchanged if the system can't resolve them."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # for example, the name is too long or a parent folder isn't accessible
        return False
