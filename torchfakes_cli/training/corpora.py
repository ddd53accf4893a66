"""Reading what lies in a corpus: which files are real or fake, made how, showing whom.

Two layouts are recognised.

FaceForensics++, as its download script leaves it (any of its compressions and methods, masks ignored)::

    original_sequences/{youtube,actors}/{raw,c23,c40}/videos/000.mp4
    manipulated_sequences/<method>/{raw,c23,c40}/videos/<target>_<source>.mp4

and plain folders, with stills welcome beside videos::

    real/**                    real/<where it comes from>/** makes that the method's name
    fake/<method>/**
    anything.csv               optional: path, label and, if known, method, group, split, source

Such a CSV is the list of the corpus: files that it doesn't name are left out. A *group* is a person or a piece of
footage and never lies on both sides of a split. Without a CSV, files of the same stem are one group, so that
``fake/x/a.mp4`` stays with the ``real/a.mp4`` it was made from.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.video import VIDEO_SUFFIXES

REAL, FAKE = "real", "fake"
TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
#: A still picture is a video of one frame.
STILL_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_LABELS = {"real": REAL, "0": REAL, "fake": FAKE, "1": FAKE}
_SPLIT_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
_ORIGINALS, _MANIPULATED = "original_sequences", "manipulated_sequences"
_PAIR_NAME = re.compile(r"(?P<target>\d+)_(?P<source>\d+)")
_ACTOR_NAME = re.compile(r"(?P<actor>\d+)__(?P<scene>.+)")
_ACTOR_PAIR_NAME = re.compile(r"(?P<target>\d+)_(?P<source>\d+)__(?P<scene>.+)__\w{8}")


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
        layout: ``FaceForensics++`` or ``folders``.
        videos: in a repeatable order, genuine ones first; names are unique.
        skipped: what was left out.
        notes: plain sentences on what is missing.
    """

    layout: str
    videos: tuple[SourceVideo, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def read_corpus(root: Path, reals: Sequence[Path] = ()) -> Corpus:
    """Read a corpus, and folders of further genuine videos or stills.

    In those folders each file is a group of its own, unless several files of one folder share the longest run of three
    or more digits in their names, as ``neutral_front_001_03.jpg`` and ``smiling_front_001_03.jpg`` do: then they show
    one person. A CSV at the folder's top with the columns path and group says it better.

    Raises:
        DataError: the layout isn't known, a CSV contradicts itself, or nothing usable is there.
    """
    if not root.is_dir():
        raise DataError("is not a folder", path=root, advice="Give the folder that holds the corpus.")
    table = _find_table(root, ("path", "label"))
    if (root / _ORIGINALS).is_dir() or (root / _MANIPULATED).is_dir():
        corpus = _read_faceforensics(root)
    elif table is not None:
        corpus = _read_listed(root, table)
    elif (root / REAL).is_dir() or (root / FAKE).is_dir():
        corpus = _read_folders(root)
    else:
        raise _unknown_layout(root)
    videos, skipped = list(corpus.videos), list(corpus.skipped)
    names_taken = {video.video.split("/")[0] for video in videos}
    paths_taken = {video.path.resolve() for video in videos}
    for folder in reals:
        extra = _read_reals(folder, names_taken, paths_taken)
        videos += extra
        names_taken |= {video.video.split("/")[0] for video in extra}
        paths_taken |= {video.path.resolve() for video in extra}
    if not videos:
        raise DataError(
            "holds no video or picture", path=root, advice="Check the path, or see what was left out above."
        )
    videos.sort(key=lambda video: (video.label == FAKE, video.video))
    unique, duplicates = _without_duplicates(videos)
    return replace(corpus, videos=tuple(unique), skipped=(*skipped, *duplicates))


def select(
    corpus: Corpus, methods: Sequence[str] = (), compression: str | None = None, limit: int | None = None, seed: int = 0
) -> list[SourceVideo]:
    """The part of a corpus to work on.

    Args:
        corpus: all of it.
        methods: only fakes made by these, in any spelling of case; all if empty.
        compression: only files of this compression (those that have none stay).
        limit: at most this many files of each collection and method, chosen group by group.
        seed: decides which groups a limit takes.

    Raises:
        DataError: the corpus has no such method or compression.
    """
    videos = list(corpus.videos)
    if methods:
        wanted = {method.casefold() for method in methods}
        known = sorted({video.method for video in videos if video.label == FAKE})
        if missing := wanted - {method.casefold() for method in known}:
            raise DataError(f"no fakes made by {', '.join(sorted(missing))}", advice=f"Found: {_listed(known)}.")
        videos = [video for video in videos if video.label == REAL or video.method.casefold() in wanted]
    if compression:
        known = sorted({video.compression for video in videos if video.compression})
        if compression not in known:
            raise DataError(f"nothing is compressed as {compression}", advice=f"Found: {_listed(known)}.")
        videos = [video for video in videos if video.compression in ("", compression)]
    if limit is not None:
        videos = _limited(videos, limit, seed)
    return videos


def group_order(group: str, seed: int) -> bytes:
    """A repeatable shuffle: sort groups by this."""
    return hashlib.blake2b(f"{seed}/{group}".encode(errors="surrogateescape"), digest_size=8).digest()


def _limited(videos: Sequence[SourceVideo], limit: int, seed: int) -> list[SourceVideo]:
    taken: Counter[tuple[str, str]] = Counter()
    chosen = set()
    # Another order than that of the splits, or a trial would see one split only.
    for video in sorted(videos, key=lambda v: (group_order(f"limit/{v.group}", seed), v.video)):
        kind = (video.label, video.method)
        if taken[kind] < limit:
            taken[kind] += 1
            chosen.add(video.video)
    return [video for video in videos if video.video in chosen]


# FaceForensics++


def _read_faceforensics(root: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    name = _namer(root)
    for label, folder in ((REAL, root / _ORIGINALS), (FAKE, root / _MANIPULATED)):
        for path in _files(folder):
            place = path.relative_to(folder).parts
            if "masks" in place:
                continue
            relative = path.relative_to(root).as_posix()
            if len(place) != 4 or place[2] != "videos" or not _is_footage(path):
                skipped.append(Skipped(relative, "is not <method>/<compression>/videos/<video>"))
                continue
            people = _people(label, path.stem)
            if people is None:
                pattern = "an original's" if label == REAL else "<target>_<source>"
                skipped.append(Skipped(relative, f"its name is not {pattern}"))
                continue
            group, partner = people
            videos.append(SourceVideo(path, name(path), label, place[0], group, partner=partner, compression=place[1]))
    if not videos:
        raise DataError(
            "looks like FaceForensics++ but holds no videos",
            path=root,
            advice=f"Expected {_ORIGINALS}/youtube/c23/videos/000.mp4.",
        )
    videos = _with_faceforensics_sources(_with_joined_pairs(videos))
    return Corpus("FaceForensics++", tuple(videos), tuple(skipped), _missing_pairs(videos))


def _people(label: str, stem: str) -> tuple[str, str] | None:
    """Group and partner of a file of FaceForensics++ by its name; None if the name is none of its."""
    if label == REAL:
        if match := _ACTOR_NAME.fullmatch(stem):
            return f"actor:{match['actor']}", ""
        return (f"youtube:{stem}", "") if stem.isdecimal() else None
    if match := _ACTOR_PAIR_NAME.fullmatch(stem):
        return f"actor:{match['target']}", f"actor:{match['source']}"
    if match := _PAIR_NAME.fullmatch(stem):
        return f"youtube:{match['target']}", f"youtube:{match['source']}"
    return None


def _with_joined_pairs(videos: Iterable[SourceVideo]) -> list[SourceVideo]:
    """Make one group of all originals that are linked by fakes.

    The few actors of DeepFakeDetection are all linked to each other: they stay apart and keep their partner instead.
    """
    videos = list(videos)
    root = _components((v.group, v.partner) for v in videos if v.partner.startswith("youtube:"))
    return [
        v if v.group.startswith("actor:") else replace(v, group=root.get(v.group, v.group), partner="") for v in videos
    ]


def _with_faceforensics_sources(videos: Iterable[SourceVideo]) -> list[SourceVideo]:
    videos = list(videos)
    originals = {(v.compression, v.path.stem): v.video for v in videos if v.label == REAL}

    def original(video: SourceVideo) -> str:
        stem = video.path.stem
        if match := _ACTOR_PAIR_NAME.fullmatch(stem):
            stem = f"{match['target']}__{match['scene']}"
        elif match := _PAIR_NAME.fullmatch(stem):
            stem = match["target"]
        return originals.get((video.compression, stem), "")

    return [replace(v, source=original(v)) if v.label == FAKE else v for v in videos]


def _missing_pairs(videos: Sequence[SourceVideo]) -> tuple[str, ...]:
    """What some methods lack that others have, at the same compression."""
    pairs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for video in videos:
        if video.label == FAKE and video.group.startswith("youtube:"):
            pairs[video.compression, video.method].add(video.path.stem)
    notes = []
    for (compression, method), own in sorted(pairs.items()):
        everything = set().union(*(other for (c, _), other in pairs.items() if c == compression))
        if missing := sorted(everything - own):
            notes.append(
                f"{method} {compression} lacks {len(missing)} of the {len(everything)} pairs that other methods have: "
                f"{_listed(missing)}"
            )
    return tuple(notes)


# Plain folders


def _read_folders(root: Path) -> Corpus:
    name = _namer(root)
    videos = []
    for label in (REAL, FAKE):
        for path in _files(root / label):
            if _is_footage(path):
                inner = path.relative_to(root / label).parts
                method = inner[0] if len(inner) > 1 else label
                videos.append(SourceVideo(path, name(path), label, method, path.stem))
    return Corpus("folders", tuple(_with_folder_sources(videos, {})))


def _read_listed(root: Path, table: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    wanted_sources: dict[str, str] = {}
    listed: set[Path] = set()
    name = _namer(root)
    for line, row in _rows(table):
        label = _LABELS.get(row["label"].strip().casefold())
        split = row.get("split", "").strip().casefold()
        if label is None or (split and split not in _SPLIT_NAMES):
            value = f"label {row['label']!r}" if label is None else f"split {split!r}"
            raise DataError(
                f"unknown {value} in line {line}", path=table, advice="Labels: real, fake. Splits: train, val, test."
            )
        path = root / row["path"]
        if path in listed:
            raise DataError(f"line {line} names {row['path']} again", path=table, advice="List each file once.")
        listed.add(path)
        if not path.is_file():
            skipped.append(Skipped(row["path"], f"is listed in {table.name} but not there"))
        elif not _is_footage(path):
            skipped.append(Skipped(row["path"], "is neither a video nor a picture"))
        elif not path.resolve().is_relative_to(root.resolve()):
            skipped.append(Skipped(row["path"], "lies outside the corpus"))
        else:
            method = row.get("method", "").strip() or path.parent.name
            group = row.get("group", "").strip() or path.stem
            video = SourceVideo(path, name(path), label, method, group, split=_SPLIT_NAMES.get(split, ""))
            videos.append(video)
            if source := row.get("source", "").strip():
                wanted_sources[video.video] = source
    unlisted = [p for label in (REAL, FAKE) for p in _files(root / label) if _is_footage(p) and p not in listed]
    skipped += [Skipped(p.relative_to(root).as_posix(), f"is not listed in {table.name}") for p in unlisted]
    return Corpus("folders", tuple(_with_folder_sources(videos, wanted_sources)), tuple(skipped))


def _with_folder_sources(videos: Sequence[SourceVideo], named: Mapping[str, str]) -> list[SourceVideo]:
    """Find each fake's original: the one that is named, else the only real of its group with its stem."""
    by_name = {v.video: v.video for v in videos if v.label == REAL}
    by_name |= {f"{v.video}{v.path.suffix}": v.video for v in videos if v.label == REAL}
    by_stem: dict[tuple[str, str], list[str]] = defaultdict(list)
    for video in videos:
        if video.label == REAL:
            by_stem[video.group, video.path.stem].append(video.video)

    def original(video: SourceVideo) -> str:
        if video.video in named:
            return by_name.get(named[video.video], "")
        candidates = by_stem[video.group, video.path.stem]
        return candidates[0] if len(candidates) == 1 else ""

    found = [replace(v, source=original(v)) if v.label == FAKE else v for v in videos]
    # A fake and its original are one piece of footage, whatever their groups are called.
    group_of = {v.video: v.group for v in found}
    root = _components((v.group, group_of[v.source]) for v in found if v.source)
    return [replace(v, group=root.get(v.group, v.group)) for v in found]


def _read_reals(folder: Path, names_taken: set[str], paths_taken: set[Path]) -> list[SourceVideo]:
    if not folder.is_dir():
        raise DataError("is not a folder", path=folder, advice="--reals takes a folder of genuine stills or videos.")
    prefix = base = folder.resolve().name or "reals"
    number = 2
    while prefix in names_taken:
        prefix, number = f"{base}-{number}", number + 1
    table = _find_table(folder, ("path", "group"))
    groups = {folder / row["path"]: row["group"].strip() for _, row in _rows(table)} if table else {}
    paths = [path for path in _files(folder) if _is_footage(path) and path.resolve() not in paths_taken]
    sharing = Counter((path.parent, _digits(path.stem)) for path in paths)
    name = _namer(folder)
    videos = []
    for path in paths:
        digits = _digits(path.stem)
        shared = bool(digits) and sharing[path.parent, digits] > 1
        person = path.parent.relative_to(folder) / (digits if shared else path.stem)
        inner = path.relative_to(folder).parts
        videos.append(
            SourceVideo(
                path,
                f"{prefix}/{name(path)}",
                REAL,
                inner[0] if len(inner) > 1 else prefix,
                f"{prefix}/{groups.get(path) or person.as_posix()}",
            )
        )
    return videos


def _digits(stem: str) -> str:
    """The longest run of three or more digits; the first of several; empty if there is none."""
    return max(re.findall(r"\d{3,}", stem), key=len, default="")


# Shared


def _files(folder: Path) -> Iterator[Path]:
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


def _is_footage(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES | STILL_SUFFIXES


def _namer(root: Path) -> Callable[[Path], str]:
    """Names for files below ``root``: without suffix, unless another file has that name already."""
    taken: set[str] = set()

    def name(path: Path) -> str:
        relative = path.relative_to(root)
        short = relative.with_suffix("").as_posix()
        chosen = relative.as_posix() if short in taken else short
        taken.add(chosen)
        return chosen

    return name


def _components(links: Iterable[tuple[str, str]]) -> dict[str, str]:
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


def _without_duplicates(videos: Sequence[SourceVideo]) -> tuple[list[SourceVideo], list[Skipped]]:
    """Keep the first of files with the same content, and join their groups: a copy must not cross a split."""
    by_size: dict[int, list[SourceVideo]] = defaultdict(list)
    for video in videos:
        by_size[video.path.stat().st_size].append(video)
    kept_for: dict[str, SourceVideo] = {}
    for size, alike in by_size.items():
        first: dict[bytes, SourceVideo] = {}
        for video in alike if size and len(alike) > 1 else ():
            kept = first.setdefault(_digest(video.path), video)
            if kept is not video:
                kept_for[video.video] = kept
    root = _components((v.group, kept_for[v.video].group) for v in videos if v.video in kept_for)

    def settled(video: SourceVideo) -> SourceVideo:
        source = kept_for.get(video.source)
        name = source.video if source is not None and source.label == REAL else video.source
        return replace(video, group=root.get(video.group, video.group), source=name)

    unique = [settled(video) for video in videos if video.video not in kept_for]
    return unique, [Skipped(name, f"has the same content as {kept.video}") for name, kept in kept_for.items()]


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        # Unreadable files are told apart by name here, and reported when their turn comes.
        return os.fsencode(path)


def _find_table(folder: Path, columns: tuple[str, ...]) -> Path | None:
    """The one CSV at the top of a folder that has these columns."""
    tables = [path for path in sorted(folder.glob("*.csv")) if set(columns) <= set(_header(path))]
    if len(tables) > 1:
        raise DataError(
            f"several CSV files have the columns {' and '.join(columns)}: {_listed([t.name for t in tables])}",
            path=folder,
            advice="Keep one of them at the top.",
        )
    return tables[0] if tables else None


def _header(table: Path) -> list[str]:
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file), [])


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row; absent cells are empty."""
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, restval="")
        for row in reader:
            yield reader.line_num, {column: cell for column, cell in row.items() if column is not None}


def _listed(names: Sequence[str], most: int = 10) -> str:
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "nothing"


def _unknown_layout(root: Path) -> DataError:
    found = _listed(sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir()))
    return DataError(
        f"no known layout; found {found}",
        path=root,
        advice=f"Known are FaceForensics++ ({_ORIGINALS}/ and {_MANIPULATED}/), folders real/ and fake/<method>/, or a "
        "CSV with the columns path and label.",
    )
