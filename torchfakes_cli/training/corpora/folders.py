"""Plain folders, with stills welcome beside videos.

::

    real/**                    real/<where it comes from>/** makes that the method's name
    fake/<method>/**
    anything.csv               optional: path, label and, if known, method, group, split, source

Such a CSV is the list of the corpus: files that it doesn't name are left out. Without one, files of the same stem are
one group, so that ``fake/x/a.mp4`` stays with the ``real/a.mp4`` it was made from.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import faceforensics
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
    Corpus,
    Layout,
    Skipped,
    SourceVideo,
    files_below,
    is_footage,
    namer,
    split_named,
)
from torchfakes_cli.training.corpora.tables import find_table, located, table_rows, unused_tables

_LABELS = {"real": REAL, "0": REAL, "fake": FAKE, "1": FAKE}
_COLUMNS = ("path", "label")


def _recognises(root: Path) -> bool:
    return find_table(root, _COLUMNS) is not None or (root / REAL).is_dir() or (root / FAKE).is_dir()


def _read(root: Path) -> Corpus:
    table = find_table(root, _COLUMNS)
    return _read_folders(root) if table is None else _read_listed(root, table)


def _read_folders(root: Path) -> Corpus:
    name = namer(root)
    videos = []
    for label in (REAL, FAKE):
        for path in files_below(root / label):
            if is_footage(path):
                inner = path.relative_to(root / label).parts
                method = inner[0] if len(inner) > 1 else label
                videos.append(SourceVideo(path, name(path), label, method, path.stem))
    return _with_sources(videos, {})


def unused_lists(root: Path, used: Sequence[Path]) -> tuple[str, ...]:
    """Write notes on lists of files at the top of a corpus that were not used."""
    table = find_table(root, _COLUMNS)
    return unused_tables(root, used if table is None else (*used, table))


def _read_listed(root: Path, table: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    wanted_sources: dict[str, str] = {}
    listed: set[Path] = set()
    name, resolved = namer(root), root.resolve()
    for line, row in table_rows(table):
        label = _LABELS.get(row["label"].casefold())
        if label is None:
            raise DataError(f"unknown label {row['label']!r} in line {line}", path=table, advice="Labels: real, fake.")
        split = split_named(row.get("split", ""), table, line)
        path = located(root, row["path"])
        if path in listed:
            raise DataError(f"line {line} names {row['path']} again", path=table, advice="List each file once.")
        listed.add(path)
        name_given = row["path"] or f"line {line}"
        if not row["path"] or not path.is_file():
            skipped.append(Skipped(name_given, f"is listed in {table.name} but not there"))
        elif not is_footage(path):
            skipped.append(Skipped(row["path"], "is neither a video nor a picture"))
        elif not path.resolve().is_relative_to(resolved):
            skipped.append(Skipped(row["path"], f"is listed in {table.name} but lies outside the corpus"))
        else:
            method = row.get("method", "") or path.parent.name
            group = row.get("group", "") or path.stem
            video = SourceVideo(path, name(path), label, method, group, split=split)
            videos.append(video)
            if source := row.get("source", ""):
                original = located(root, source)
                inside = original.is_relative_to(root)
                wanted_sources[video.video] = original.relative_to(root).as_posix() if inside else source
    unlisted = [p for label in (REAL, FAKE) for p in files_below(root / label) if is_footage(p) and p not in listed]
    skipped += [Skipped(p.relative_to(root).as_posix(), f"is not listed in {table.name}") for p in unlisted]
    return replace(_with_sources(videos, wanted_sources), skipped=tuple(skipped))


def _with_sources(videos: Sequence[SourceVideo], named: Mapping[str, str]) -> Corpus:
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
    # A fake and its original are one piece of footage, regardless of the names of their groups.
    group_of = {v.video: v.group for v in found}
    links = tuple((v.group, group_of[v.source]) for v in found if v.source)
    return Corpus(LAYOUT.name, tuple(found), links=links)


LAYOUT = Layout(
    name="folders",
    signs="folders real/ and fake/<method>/, or a CSV with the columns path and label",
    recognises=_recognises,
    read=_read,
)


def read_reals(folder: Path, names_taken: Collection[str], paths_taken: Collection[Path]) -> list[SourceVideo]:
    """Read a folder of genuine files; of FaceForensics++ its originals alone, in one compression.

    Each file is a group of its own, unless several files of one folder share the longest run of three or more digits in
    their names, as ``neutral_front_001_03.jpg`` and ``smiling_front_001_03.jpg`` do: then they show one person. A CSV
    at the folder's top with the columns path and group says it better.

    Args:
        folder: with anything below it.
        names_taken: first parts of names that are in use.
        paths_taken: files that are in the corpus already.

    Raises:
        DataError: it isn't a folder.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", path=folder, advice="--reals takes a folder of genuine stills or videos.")
    prefix = base = folder.resolve().name or "reals"
    number = 2
    while prefix in names_taken:
        prefix, number = f"{base}-{number}", number + 1
    if faceforensics.LAYOUT.recognises(folder):
        videos = faceforensics.read_originals(folder)
    else:
        videos = _read_any(folder, prefix)
    return [replace(v, video=f"{prefix}/{v.video}") for v in videos if v.path.resolve() not in paths_taken]


def _read_any(folder: Path, prefix: str) -> list[SourceVideo]:
    table = find_table(folder, ("path", "group"))
    groups = {located(folder, row["path"]): row["group"] for _, row in table_rows(table)} if table else {}
    paths = [path for path in files_below(folder) if is_footage(path)]
    sharing = Counter((path.parent, _digits(path.stem)) for path in paths)
    name = namer(folder)
    videos = []
    for path in paths:
        digits = _digits(path.stem)
        shared = bool(digits) and sharing[path.parent, digits] > 1
        person = path.parent.relative_to(folder) / (digits if shared else path.stem)
        inner = path.relative_to(folder).parts
        method = inner[0] if len(inner) > 1 else prefix
        group = f"{prefix}/{groups.get(path) or person.as_posix()}"
        videos.append(SourceVideo(path, name(path), REAL, method, group))
    return videos


def _digits(stem: str) -> str:
    """The longest run of three or more digits; the first of several; empty if there is none."""
    return max(re.findall(r"\d{3,}", stem), key=len, default="")
