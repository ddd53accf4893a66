"""Plain folders, with stills beside videos.

::

    real/**                    real/<collection>/** names the collection
    fake/<method>/**
    anything.csv               optional: path, label and, if known, method, group, split, source

Such a CSV is the list of the corpus: files that it doesn't name are left out. Without one, files of the same stem are
one group, so that ``fake/x/a.mp4`` stays with its original ``real/a.mp4``.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import tables
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
from torchfakes_cli.training.corpora.published import read_originals

_LABELS = {"real": REAL, "0": REAL, "fake": FAKE, "1": FAKE}
_REQUIRED = ("path", "label")
_COLUMNS = (*_REQUIRED, "method", "group", "split", "source")
_PEOPLE = ("path", "group")


def _recognizes(root: Path) -> bool:
    return (root / REAL).is_dir() or (root / FAKE).is_dir() or tables.find_table(root, _REQUIRED) is not None


def _read(root: Path) -> Corpus:
    table = tables.find_table(root, _REQUIRED)
    if table is not None:
        return _read_listed(root, table)
    name = namer(root)
    videos = []
    for label in (REAL, FAKE):
        for path in files_below(root / label):
            if is_footage(path):
                inner = path.relative_to(root / label).parts
                method = inner[0] if len(inner) > 1 else label
                videos.append(SourceVideo(path, name(path), label, method, path.stem, footage=path.stem))
    return Corpus(LAYOUT.name, tuple(videos))


def unused_lists(root: Path, corpus: Corpus) -> tuple[str, ...]:
    """Return notes on lists of files at the top of a corpus that were not used."""
    table = tables.find_table(root, _REQUIRED)
    return tables.unused_tables(root, corpus.lists if table is None else (*corpus.lists, table), _REQUIRED)


def _read_listed(root: Path, table: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    source_of: dict[str, str] = {}
    listed: set[Path] = set()
    name, resolved = namer(root), root.resolve()
    for line, row in tables.table_rows(table):
        label = _LABELS.get(row["label"].casefold())
        if label is None:
            raise DataError(f"unknown label {row['label']!r} in line {line}", path=table, advice="Labels: real, fake.")
        split = split_named(row.get("split", ""), table, line)
        path = tables.located(root, row["path"])
        if path in listed:
            raise DataError(f"line {line} names {row['path']} again", path=table, advice="List each file once.")
        listed.add(path)
        if not row["path"] or not os.path.isfile(path):  # noqa: PTH113 - raises no error for impossible names
            skipped.append(Skipped(row["path"] or f"line {line}", f"is listed in {table.name} but not there"))
        elif not is_footage(path):
            skipped.append(Skipped(row["path"], "is neither a video nor a picture"))
        elif not path.resolve().is_relative_to(resolved):
            skipped.append(Skipped(row["path"], f"is listed in {table.name} but lies outside the corpus"))
        else:
            method = row.get("method", "") or path.parent.name
            group = row.get("group", "") or path.stem
            footage = "" if row.get("source") else f"{group}/{path.stem}"
            video = SourceVideo(path, name(path), label, method, group, split=split, footage=footage)
            videos.append(video)
            source_of[video.video] = row.get("source", "")
    unlisted = [p for label in (REAL, FAKE) for p in files_below(root / label) if is_footage(p) and p not in listed]
    skipped += [Skipped(p.relative_to(root).as_posix(), f"is not listed in {table.name}") for p in unlisted]
    by_path = {path: v.video for v in videos if v.label == REAL for path in (v.path, v.path.with_suffix(""))}
    named = [
        replace(v, source=by_path.get(tables.located(root, source_of[v.video]), "")) if v.label == FAKE else v
        for v in videos
    ]
    lost = [source_of[v.video] for v in named if v.label == FAKE and source_of[v.video] and not v.source]
    notes = [f"{note} (source)" for note in tables.unknown_names(lost, table)]
    if unused := [column for column in tables.table_columns(table) if column and column not in _COLUMNS]:
        notes.append(f"{table.name}: not used are the columns {', '.join(unused)}; known are {', '.join(_COLUMNS)}")
    return Corpus(LAYOUT.name, tuple(named), tuple(skipped), tuple(notes))


LAYOUT = Layout(
    name="folders",
    signs="folders real/ and fake/<method>/, or a CSV with the columns path and label",
    recognizes=_recognizes,
    read=_read,
)


def read_reals(
    folder: Path, names_taken: Collection[str], paths_taken: Collection[Path]
) -> tuple[list[SourceVideo], tuple[str, ...]]:
    """Read a folder of genuine files; of FaceForensics++ only its originals, in one compression.

    Each file is a group of its own, unless several files of one folder share the longest run of three or more digits in
    their names, as ``neutral_front_001_03.jpg`` and ``smiling_front_001_03.jpg`` do: then they show one person. A CSV
    at the folder's top with the columns path and group overrides this. The method of all of them is the folder's name.

    Returns:
        The files that are not in the corpus already (whose names start with none of ``names_taken``), and notes.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", path=folder, advice="--reals takes a folder of genuine stills or videos.")
    prefix = base = folder.resolve().name or "reals"
    number = 2
    while prefix in names_taken:
        prefix, number = f"{base}-{number}", number + 1
    originals = read_originals(folder)
    videos, notes = _read_any(folder, prefix) if originals is None else (originals, ())
    if not videos:
        notes = (*notes, f"{prefix} holds no genuine stills or videos")
    return [replace(v, video=f"{prefix}/{v.video}") for v in videos if v.path.resolve() not in paths_taken], notes


def _read_any(folder: Path, prefix: str) -> tuple[list[SourceVideo], tuple[str, ...]]:
    paths = [path for path in files_below(folder) if is_footage(path)]
    table = tables.find_table(folder, _PEOPLE)
    groups: dict[Path, str] = {}
    notes = tables.unused_tables(folder, [] if table is None else [table], _PEOPLE)
    if table is not None:
        cells = [(tables.located(folder, row["path"]), row) for _, row in tables.table_rows(table)]
        groups = {path: row["group"] for path, row in cells}
        known = set(paths)
        notes += tables.unknown_names([row["path"] for path, row in cells if path not in known], table)
    sharing = Counter((path.parent, _digits(path.stem)) for path in paths)
    name = namer(folder)
    videos = []
    for path in paths:
        digits = _digits(path.stem)
        shared = bool(digits) and sharing[path.parent, digits] > 1
        person = path.parent.relative_to(folder) / (digits if shared else path.stem)
        group = f"{prefix}/{groups.get(path) or person.as_posix()}"
        videos.append(SourceVideo(path, name(path), REAL, prefix, group))
    return videos, notes


def _digits(stem: str) -> str:
    """Return the longest run of three or more digits, the first of several; empty if there is none."""
    return max(re.findall(r"\d{3,}", stem), key=len, default="")
