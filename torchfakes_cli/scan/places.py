"""Where the timeline of each clip goes: beside the clip, or into a folder of the user's that mirrors theirs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from torchfakes_cli.errors import UsageError
from torchfakes_cli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES

_ENDING = ".timeline.csv"


def timeline_places(videos: Iterable[str]) -> dict[str, Path]:
    """The path of each video's timeline.

    It is ``clip.timeline.csv`` beside ``clip.mp4``; where another video of that folder would claim the same name
    (``clip.mov``, or ``Clip.mp4`` on a system that doesn't tell them apart), it is ``clip.mp4.timeline.csv``.
    """
    by_folder: dict[Path, list[str]] = {}
    for video in videos:
        by_folder.setdefault(Path(video).parent, []).append(video)
    places = {}
    for folder, members in by_folder.items():
        names = _names_in(folder, VIDEO_SUFFIXES) | {Path(video).name for video in members}
        places.update({video: folder / (_base(Path(video), names) + _ENDING) for video in members})
    return places


def explanation_place(video: str) -> Path:
    """The folder of a video's explanation: ``clip.explain`` beside ``clip.mp4``, named apart as timelines are."""
    path = Path(video)
    names = _names_in(path.parent, VIDEO_SUFFIXES)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        names |= _names_in(path.parent, PICTURE_SUFFIXES)
    return path.parent / (_base(path, names) + ".explain")


def mirrored_places(videos: Iterable[str], given: Iterable[str], folder: str) -> dict[str, Path]:
    """The path of each video's timeline in a folder that has the same folders as those that were searched.

    Args:
        videos: found below the paths given.
        given: the files and folders the user named; what lies above all of them is left out of the new paths.
        folder: for the timelines.

    Raises:
        UsageError: the paths have no folder in common (drives of Windows).
    """
    tops = [Path(path) if Path(path).is_dir() else Path(path).parent for path in given]
    try:
        top = os.path.commonpath([_absolute(path) for path in tops])
    except ValueError as error:
        raise UsageError("the videos lie on several drives", advice="Scan them drive by drive.") from error
    beside = timeline_places(videos)
    return {video: Path(folder, os.path.relpath(_absolute(place), top)) for video, place in beside.items()}


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - unlike Path.absolute it does away with "..", and links stay links


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
