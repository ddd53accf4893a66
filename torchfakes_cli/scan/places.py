"""Where the timeline of a clip goes when the user names no place: beside the clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torchfakes_cli.video import VIDEO_SUFFIXES

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
        names = _videos_in(folder) | {Path(video).name for video in members}
        places.update({video: folder / (_base(Path(video), names) + _ENDING) for video in members})
    return places


def _base(video: Path, names: Iterable[str]) -> str:
    stem = video.stem.casefold()
    for name in names:
        other = Path(name)
        if name != video.name and stem in (other.stem.casefold(), other.name.casefold()):
            return video.name
    return video.stem


def _videos_in(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir() if entry.suffix.lower() in VIDEO_SUFFIXES}
    except OSError:
        return set()
