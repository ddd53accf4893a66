"""Records of a corpus, and helpers that its readers share."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import DataError
from torchfakes_cli.video.options import PICTURE_SUFFIXES, VIDEO_SUFFIXES

REAL, FAKE = "real", "fake"
TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
#: Suffixes of still pictures, in lower case. A still counts as a video of one frame.
STILL_SUFFIXES = PICTURE_SUFFIXES | {".bmp", ".tif", ".tiff"}

_SPLIT_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """One video or still of a corpus."""

    path: Path
    video: str  # unique name: the path below the corpus, with ``/`` and without suffix
    label: str  # ``real`` or ``fake``
    method: str  # method that made a fake; collection of a genuine file
    group: str  # person or footage; a group is never split
    source: str = ""  # for a fake, the ``video`` of its original if that is in the corpus, else empty
    split: str = ""  # ``train``, ``val`` or ``test`` if the corpus gives one, else empty
    partner: str = ""  # second group that must be in the same split (the person whose face was put in), or empty
    compression: str = ""  # compression in FaceForensics++, such as ``c23``, or empty
    footage: str = ""  # name that an original shares with the fakes made from it, or empty

    @property
    def is_still(self) -> bool:
        """True for a picture, by its suffix."""
        return self.path.suffix.lower() in STILL_SUFFIXES


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that gave no crops."""

    name: str  # path as found, or name of a video
    reason: str  # as a clause, the same for all files of a kind
    detail: str = ""  # what differs from file to file, such as the file that this one repeats


@dataclass(frozen=True, slots=True)
class Corpus:
    """All usable files of a corpus.

    If the splits were published with the corpus (``official``), they may contradict what is known of people: the test
    videos then stay, and other videos of the same people are left out. Otherwise contradictions are errors.
    """

    layout: str  # name, such as ``FaceForensics++`` or ``folders``
    videos: tuple[SourceVideo, ...]  # in a repeatable order, genuine ones first; names are unique
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()  # sentences on what is missing
    links: tuple[tuple[str, str], ...] = ()  # groups that must become one: a fake joins them, or footage is the same
    rest: tuple[str, ...] = SPLITS  # splits that are open to videos without a given split
    official: bool = False
    lists: tuple[Path, ...] = ()  # files beside the corpus that decide the splits


@dataclass(frozen=True, slots=True)
class Layout:
    """Reader of one kind of corpus."""

    name: str
    signs: str  # folders or files that identify it, for error messages
    recognizes: Callable[[Path], bool]  # returns True for a folder that holds such a corpus
    read: Callable[[Path], Corpus]  # reads a folder, without joining groups or finding originals
    official: Callable[[Corpus, Path], Corpus] | None = None  # applies the published splits in a folder, if any
    advice: str | None = None  # where to get missing originals; None if fakes may have none


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder in a repeatable order. Follows links once; leaves hidden files out."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def is_footage(path: Path) -> bool:
    """Return True for a video or a picture, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES | STILL_SUFFIXES


def namer(root: Path) -> Callable[[Path], str]:
    """Return a function that names files below ``root``: without suffix, unless another file has that name."""
    taken: set[str] = set()

    def name(path: Path) -> str:
        relative = path.relative_to(root)
        short = relative.with_suffix("").as_posix()
        chosen = relative.as_posix() if short in taken else short
        taken.add(chosen)
        return chosen

    return name


def components(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return, for each linked name, the alphabetically first name of its connected component."""
    from scipy.cluster.hierarchy import DisjointSet

    pairs = list(links)
    sets = DisjointSet({name for pair in pairs for name in pair})
    for one, other in pairs:
        sets.merge(one, other)
    return {name: min(subset) for subset in sets.subsets() for name in subset}


def group_order(group: str, seed: int) -> bytes:
    """Return a sort key that shuffles groups repeatably."""
    return hashlib.blake2b(f"{seed}/{group}".encode(errors="surrogateescape"), digest_size=8).digest()


def split_named(text: str, path: Path, line: int) -> str:
    """Return ``train``, ``val``, ``test`` or an empty string for a cell of a list; ``DataError`` for other text."""
    name = text.strip().casefold()
    if name and name not in _SPLIT_NAMES:
        raise DataError(f"unknown split {name!r} in line {line}", path=path, advice="Splits: train, val, test.")
    return _SPLIT_NAMES.get(name, "")


def summarized(skipped: Sequence[Skipped]) -> list[str]:
    """Return one line per reason, the most frequent first."""
    first = {each.reason: each for each in reversed(skipped)}
    lines = []
    for reason, count in Counter(each.reason for each in skipped).most_common():
        name, detail = first[reason].name, first[reason].detail
        alone = f"{reason}: {detail}" if detail else reason
        lines.append(f"{name}: {alone}" if count == 1 else f"{name} and {count - 1} more: {reason}")
    return lines


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names for a sentence, the first few of many."""
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "nothing"


def read_json(path: Path) -> Any:
    """Read a JSON file; ``DataError`` if it is damaged or can't be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read as JSON ({error})", path=path, advice="Copy or download it again.") from error
