"""Output paths: the timeline and report of each video, named after it, in a mirrored folder tree or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from torchfakes_cli.errors import UsageError
from torchfakes_cli.video.options import PICTURE_SUFFIXES, VIDEO_SUFFIXES

#: Endings of the file names of timelines and reports.
TIMELINE_ENDING = ".timeline.csv"
PAGE_ENDING = ".report.html"

_PAGES = (".html", ".htm", ".xhtml")


def output_names(videos: Iterable[str], ending: str = TIMELINE_ENDING) -> dict[str, Path]:
    """Return for each video the path beside it that its timeline, or another output with this ending, is named by.

    The timeline of ``clip.mp4`` is ``clip.timeline.csv``. If another video in the folder would get the same name
    (``clip.mov``, or ``Clip.mp4`` on case-insensitive systems), it is ``clip.mp4.timeline.csv``.
    """
    by_folder: dict[Path, list[str]] = {}
    for video in videos:
        by_folder.setdefault(Path(video).parent, []).append(video)
    paths = {}
    for folder, members in by_folder.items():
        names = _names_in(folder, VIDEO_SUFFIXES) | {Path(video).name for video in members}
        paths.update({video: folder / (_base(Path(video), names) + ending) for video in members})
    return paths


def explanation_folder(video: str) -> Path:
    """Return the folder of a video's explanation: ``clip.explain`` in the current folder, named as timelines are."""
    path = Path(video)
    names = _names_in(path.parent, VIDEO_SUFFIXES)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        names |= _names_in(path.parent, PICTURE_SUFFIXES)
    return Path(_base(path, names) + ".explain")


def timeline_name(video: str) -> Path:
    """Return the path of a single video's timeline: ``clip.timeline.csv`` in the current folder."""
    return Path(output_names([video])[video].name)


def mirrored_paths(
    videos: Iterable[str], given: Iterable[str], folder: str, ending: str = TIMELINE_ENDING
) -> dict[str, Path]:
    """Return the path of each video's timeline, or other output, in a folder that mirrors the searched folders.

    The paths in it are relative to the common parent folder of the ``given`` files and folders.

    Raises:
        UsageError: there is no common parent folder (several drives of Windows).
    """
    tops = [Path(path) if Path(path).is_dir() else Path(path).parent for path in given]
    try:
        top = os.path.commonpath([_absolute(path) for path in tops])
    except ValueError as error:
        raise UsageError("the videos lie on several drives", advice="Scan them drive by drive.") from error
    beside = output_names(videos, ending)
    return {video: Path(folder, os.path.relpath(_absolute(path), top)) for video, path in beside.items()}


def report_path(report: str, video: str) -> Path:
    """Return the path of the report on a single video: ``report`` itself, or a file in it if it is a folder."""
    path = Path(report)
    if report.endswith(("/", os.sep)) or path.is_dir():
        return path / output_names([video], PAGE_ENDING)[video].name
    return path


def report_paths(report: str | None, videos: Iterable[str], given: Iterable[str]) -> dict[str, Path]:
    """Return the path of the report on each of several videos, in a mirrored folder tree; empty without ``report``."""
    if report is None:
        return {}
    if Path(report).is_file() or report.lower().endswith(_PAGES):
        raise UsageError("reports on several videos go into a folder", path=report, advice="Give --report FOLDER/.")
    return mirrored_paths(videos, given, report, PAGE_ENDING)


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - it removes "..", unlike Path.absolute, and doesn't resolve links


def _base(video: Path, names: Iterable[str]) -> str:
    stem = video.stem.casefold()
    for name in names:
        other = Path(name)
        if name != video.name and stem in (other.stem.casefold(), other.name.casefold()):
            return video.name
    return video.stem


def _names_in(folder: Path, suffixes: frozenset[str]) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir() if entry.suffix.lower() in suffixes}
    except OSError:
        return set()
