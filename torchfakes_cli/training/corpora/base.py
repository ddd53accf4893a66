"""What every layout is read into, and what readers share."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import DataError
from torchfakes_cli.video.limits import VIDEO_SUFFIXES

REAL, FAKE = "real", "fake"
TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
#: A still picture is a video of one frame.
STILL_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_SPLIT_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """One file of a corpus.

    Attributes:
        path: where it lies.
        video: its unique name: the path below the corpus, with ``/`` and without suffix.
        label: ``real`` or ``fake``.
        method: how a fake was made; for a genuine file, the collection that it comes from.
        group: person or footage; never split.
        source: for a fake, the ``video`` of its original footage where that is in the corpus, else empty.
        split: ``train``, ``val`` or ``test`` where the corpus says so, else empty.
        partner: a second group that must lie in the same split (the person whose face was put in), or empty.
        compression: of FaceForensics++, such as ``c23``, or empty.
    """

    path: Path
    video: str
    label: str
    method: str
    group: str
    source: str = ""
    split: str = ""
    partner: str = ""
    compression: str = ""

    @property
    def is_still(self) -> bool:
        """Whether it is a picture rather than a video."""
        return self.path.suffix.lower() in STILL_SUFFIXES


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a folder's worth of them, that gave no crops.

    Attributes:
        name: a path as found, or a video's name.
        reason: why, as a clause.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything usable in a corpus.

    Attributes:
        layout: its name, such as ``FaceForensics++`` or ``folders``.
        videos: in a repeatable order, genuine ones first; names are unique.
        skipped: what was left out.
        notes: plain sentences on what is missing.
        links: pairs of groups that are one, since a fake joins them or their footage is the same.
        rest: splits that are open to videos without a given split.
        official: the splits of its videos were published with the corpus, and may contradict what is known of people:
            then those for testing stay, and what shows the same people elsewhere is left out. Splits from anywhere else
            that contradict each other are refused.
        lists: files beside the corpus that say which video belongs where.
    """

    layout: str
    videos: tuple[SourceVideo, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    rest: tuple[str, ...] = SPLITS
    official: bool = False
    lists: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of corpus is recognised and read.

    Attributes:
        name: of the corpus.
        signs: what it is recognised by, for an error's advice.
        recognises: whether a folder holds such a corpus.
        read: everything in it; groups aren't joined yet.
        official: puts the videos where the lists in a folder say; None where the corpus has no such lists.
        completed: finds what lies outside the corpus, once that has been read, too.
    """

    name: str
    signs: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Corpus]
    official: Callable[[Corpus, Path], Corpus] | None = None
    completed: Callable[[Corpus], Corpus] | None = None


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder in a repeatable order, through links but never twice, hidden ones left out."""
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
    """Whether a file is a video or a picture, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES | STILL_SUFFIXES


def namer(root: Path) -> Callable[[Path], str]:
    """Names for files below ``root``: without suffix, unless another file has that name already."""
    taken: set[str] = set()

    def name(path: Path) -> str:
        relative = path.relative_to(root)
        short = relative.with_suffix("").as_posix()
        chosen = relative.as_posix() if short in taken else short
        taken.add(chosen)
        return chosen

    return name


def components(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For each name that is linked with others, the first name, in order of the alphabet, of all it is linked with."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one, other in links:
        first, second = sorted((find(one), find(other)))
        parent[second] = first
    return {name: find(name) for name in parent}


def group_order(group: str, seed: int) -> bytes:
    """A repeatable shuffle: sort groups by this."""
    return hashlib.blake2b(f"{seed}/{group}".encode(errors="surrogateescape"), digest_size=8).digest()


def split_named(text: str, path: Path, line: int) -> str:
    """``train``, ``val`` or ``test``, or empty, for a cell of a list.

    Raises:
        DataError: it says something else.
    """
    name = text.strip().casefold()
    if name and name not in _SPLIT_NAMES:
        raise DataError(f"unknown split {name!r} in line {line}", path=path, advice="Splits: train, val, test.")
    return _SPLIT_NAMES.get(name, "")


def without_originals(videos: Sequence[SourceVideo], advice: str = "") -> tuple[str, ...]:
    """A note on fakes whose original isn't there, if there are any."""
    lone = [video.path.stem for video in videos if video.label == FAKE and not video.source]
    if not lone:
        return ()
    fakes = sum(video.label == FAKE for video in videos)
    note = f"{len(lone)} of {fakes} fakes have no original here and are cut where their own faces are: {listed(lone)}"
    return (f"{note}. {advice}" if advice else note,)


def partly_there(found: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Write a note on incomplete collections.

    Args:
        found: for each collection how many files there are, and how many there should be.
    """
    short = [f"{name} {there} of {whole}" for name, (there, whole) in found.items() if there < whole]
    return (f"only partly there: {', '.join(short)}",) if short else ()


def summarised(skipped: Sequence[Skipped]) -> list[str]:
    """One line for each reason that files were left out, the most frequent first."""
    counts = Counter(each.reason for each in skipped)
    first = {each.reason: each.name for each in reversed(skipped)}
    return [f"{first[r]}{f' and {n - 1} more' if n > 1 else ''}: {r}" for r, n in counts.most_common()]


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names for a sentence, the first few of many."""
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "nothing"


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it is damaged or can't be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read as JSON ({error})", path=path, advice="Copy or download it again.") from error
