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
    once, but not to a folder that contains the link: this ends loops and keeps the search inside the given folders. A
    file that is reached by several paths is included once, under the first.

    URLs of remote stores (``remote_files``) are accepted as files and folders; links in stores are not followed.

    Args:
        paths: files and folders.
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
    """State of one ``find_videos`` call: the videos found so far and the folders visited.

    Args:
        recursive: search subfolders, too.
        include: globs of videos to include; all if empty.
        exclude: globs of videos and folders to leave out.

    Attributes:
        videos: path of each video, by its resolved path or URL.
        duplicates: further paths of the same files, mapped to the first path.
        skipped: number of other files.
        unreadable: folders that couldn't be listed, each as (path, reason).
        states: size and time of change of remote files, by URL.
        hidden: number of hidden folders and files left out.
        matched: globs of ``include`` that matched a file.
    """

    def __init__(self, recursive: bool, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._recursive = recursive
        self._include = include
        self._exclude = exclude
        self.videos: dict[str, str] = {}
        self.duplicates: dict[str, str] = {}
        self.skipped = 0
        self.hidden = 0
        self.matched: set[str] = set()
        self.unreadable: list[tuple[str, str]] = []
        self.states: dict[str, remote.State] = {}
        self._visited: set[Path] = set()

    def take(self, given: str) -> None:
        """Add a file, or all videos in a folder."""
        if remote.is_url(given):
            self._take_url(given)
            return
        if not _is_folder(Path(given)):
            self._add(given, str(_resolved(Path(given))))
            return
        # A stack, because folders may nest deeper than Python's recursion limit.
        top = Path(given)
        stack = list(reversed(self._entries(top)))
        while stack:
            path = stack.pop()
            below = path.relative_to(top)
            excluded = _matches(below, self._exclude)
            if _is_folder(path):
                if self._recursive and not excluded:
                    stack += reversed(self._entries(path))
            elif self._included(below) and not excluded:
                self._add(str(path), str(_resolved(path)))
            else:
                self._skip(path)

    def _add(self, path: str, file: str) -> None:
        taken = self.videos.setdefault(file, path)
        if taken != path:
            self.duplicates[path] = taken

    def _skip(self, path: str | Path) -> None:
        self.skipped += 1
        logger.info("%s is skipped: its suffix is no video's or picture's, or it was excluded", path)

    def _hide(self, path: str | Path) -> None:
        self.hidden += 1
        logger.info("%s is skipped: it is hidden", path)

    def _take_url(self, given: str) -> None:
        try:
            folder = remote.is_folder(given)
        except UnreadableFileError as error:
            self.unreadable.append((given, error.cause))
            return
        if not folder:
            self._add(given, given)
            self.states[given] = remote.state_of(given)
            return
        top = given.rstrip("/")
        stack: list[tuple[Path, remote.Entry | None]] = [(Path(), None)]
        while stack:
            below, entry = stack.pop()
            excluded = entry is not None and _matches(below, self._exclude)
            url = f"{top}/{below.as_posix()}" if entry else given
            if entry is not None and _is_for_programs(entry.name, is_folder=entry.is_folder):
                self._hide(url)
            elif entry is None or entry.is_folder:
                if not excluded and (entry is None or self._recursive):
                    stack += [(below / each.name, each) for each in reversed(self._listed(url))]
            elif self._included(below) and not excluded:
                self._add(url, url)
                self.states[url] = entry.state
            else:
                self._skip(url)

    def _listed(self, url: str) -> list[remote.Entry]:
        try:
            return remote.entries(url)
        except UnreadableFileError as error:
            self.unreadable.append((url, error.cause))
            return []

    def _included(self, below: Path) -> bool:
        if below.suffix.lower() not in VIDEO_SUFFIXES | PICTURE_SUFFIXES:
            return False
        matched = {glob for glob in self._include if _matches(below, [glob])}
        self.matched |= matched
        return bool(matched) or not self._include

    def _entries(self, folder: Path) -> list[Path]:
        real = _resolved(folder)
        if real in self._visited:
            return []
        self._visited.add(real)
        try:
            entries = sorted(folder.iterdir(), key=os.fsencode)
        except OSError as error:
            self.unreadable.append((str(folder), error.strerror or str(error)))
            return []
        upwards = {real, *real.parents}
        left_out = {entry for entry in entries if _is_for_programs(entry.name, is_folder=_is_folder(entry))}
        for entry in left_out:
            self._hide(entry)
        return [entry for entry in entries if entry not in left_out and not _leads_to(entry, upwards)]


def _matches(below: Path, globs: Iterable[str]) -> bool:
    return any(fnmatch(below.as_posix() if "/" in glob else below.name, glob) for glob in globs)


def _is_for_programs(name: str, *, is_folder: bool) -> bool:
    return name.startswith("._") or (name.startswith(".") and is_folder)


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
