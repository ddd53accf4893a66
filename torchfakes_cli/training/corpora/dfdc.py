"""The Deepfake Detection Challenge: its training parts, its test set, and its preview.

::

    dfdc_train_part_N/metadata.json     {"x.mp4": {"label": "FAKE", "split": "train", "original": "y.mp4"}, …}
    test/labels.csv                     filename,label: 1 means fake
    dataset.json                        the preview: {"method_A/…/z.mp4": {"label", "set", "target_id", …}, …}

The training parts don't name their people. Recordings of one actor are mostly in one part, so with several parts each
is a group; with few, an original and its fakes are. The preview names its people: each is a group, and a fake keeps
both.

Source: Dolhansky et al., "The DeepFake Detection Challenge (DFDC) Dataset" (2020), https://arxiv.org/abs/2006.07397.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    Corpus,
    Layout,
    Skipped,
    SourceVideo,
    files_below,
    is_footage,
    listed,
    namer,
    read_json,
)
from torchfakes_cli.training.corpora.tables import table_columns, table_rows

_METADATA, _LABELS, _DATASET = "metadata.json", "labels.csv", "dataset.json"
#: Smallest number of parts that are groups; fewer can't be divided well.
_PARTS_AS_GROUPS = 4
#: The corpus does not say which of its methods made which fake.
_METHODS = {REAL: "original", FAKE: "DFDC"}

#: Fields of a ``SourceVideo`` by the path in a list; the label or the group is empty where the list doesn't tell it.
_Entries = dict[str, dict[str, str]]


def _files_named(root: Path, name: str) -> Iterator[Path]:
    """Yield files of a name at the top or up to two folders below, because archives are unpacked into folders."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        yield from sorted(root.glob(pattern))


def _metadata_files(root: Path) -> list[Path]:
    """Return the JSON lists of videos; files of other programs may have the same names."""
    found = []
    for path in (*root.glob(_DATASET), *_files_named(root, _METADATA)):
        try:
            entries = read_json(path)
        except DataError:
            if path.parent.name.startswith("dfdc") or path.name == _DATASET:
                raise
            continue
        first = next(iter(entries.values()), None) if isinstance(entries, dict) else None
        if isinstance(first, dict) and "label" in first:
            found.append(path)
    return found


def _label_tables(root: Path) -> list[Path]:
    return [path for path in _files_named(root, _LABELS) if {"filename", "label"} <= set(table_columns(path))]


def _recognizes(root: Path) -> bool:
    return bool(_metadata_files(root) or _label_tables(root))


def _read_metadata(path: Path, part: str) -> _Entries:
    """Read a JSON list; ``part`` is the group of videos whose people aren't named, empty for one per original."""
    entries = {}
    for file, entry in read_json(path).items():
        if not isinstance(entry, dict):
            raise DataError("is no list of videos", path=path, advice='Expected {"x.mp4": {"label": "FAKE", …}, …}.')
        label, original, target, source = (
            str(entry.get(key) or "") for key in ("label", "original", "target_id", "swapped_id")
        )
        label = label.casefold() if label.casefold() in _METHODS else ""
        footage = f"{path.parent.name}/{original or file}"
        fields = {"method": _METHODS.get(label, ""), "group": part or footage, "footage": footage}
        if path.name == _DATASET:
            fields = {"method": file.split("/")[0], "group": f"person:{target}" if target else ""}
            if label == FAKE and source not in ("", target):
                fields["partner"] = f"person:{source}"
        split = TEST if TEST in (entry.get("split"), entry.get("set")) else ""
        entries[file] = {"label": label, "split": split, **fields}
    return entries


def _read_labels(table: Path) -> _Entries:
    """Read a table of test videos."""
    entries = {}
    for _, row in table_rows(table):
        file, label = row["filename"].replace("\\", "/"), {"0": REAL, "1": FAKE}.get(row["label"], "")
        group = f"test:{Path(file).stem}"
        entries[file] = {"label": label, "split": TEST, "method": _METHODS.get(label, ""), "group": group}
    return entries


def _read(root: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    name = namer(root)
    tables = _label_tables(root)
    lists = [path for path in _metadata_files(root) if path.parent not in {table.parent for table in tables}]
    by_part = len(lists) >= _PARTS_AS_GROUPS
    for path in (*lists, *tables):
        folder = path.parent
        if path in tables:
            entries = _read_labels(path)
            # The competition's own archive has the videos in a folder beside the table.
            folders = (folder, *sorted(folder.glob("*/")))
            folder = next((f for f in folders if any((f / file).is_file() for file in entries)), folder)
        else:
            entries = _read_metadata(path, f"part:{folder.name}" if by_part else "")
        found = {file.relative_to(folder).as_posix(): file for file in files_below(folder) if is_footage(file)}
        for file in sorted(found):
            entry = entries.get(file)
            if entry and entry["label"] and entry["group"]:
                videos.append(SourceVideo(found[file], name(found[file]), **entry))
            else:
                reason = "has no known label" if entry and not entry["label"] else "has no person"
                skipped.append(
                    Skipped(f"{folder.name}/{file}", f"{reason if entry else 'is not listed'} in {path.name}")
                )
        if absent := sorted(entries.keys() - found.keys()):
            notes.append(f"{folder.name}: {len(absent)} of {len(entries)} listed videos aren't there: {listed(absent)}")
    preview = any(path.name == _DATASET for path in lists)
    if 0 < len(lists) < _PARTS_AS_GROUPS and not preview:
        notes.append("DFDC doesn't name its people: with so few parts the same actor may be in two splits")
    videos.sort(key=lambda video: video.label == FAKE)
    rest = (TRAIN, VAL) if any(video.split == TEST for video in videos) else SPLITS
    layout = "DFDC preview" if preview else LAYOUT.name
    return Corpus(layout, tuple(videos), tuple(skipped), tuple(notes), rest=rest, official=True)


def _official(corpus: Corpus, folder: Path) -> Corpus:
    """Check that there are official test videos, which are always kept for testing."""
    if not any(video.split == TEST for video in corpus.videos):
        raise DataError("holds none of the official test videos", path=folder, advice="Leave --split out.")
    return replace(corpus, official=True)


LAYOUT = Layout(
    name="DFDC",
    signs="DFDC (dfdc_train_part_N/metadata.json, or test/labels.csv) or its preview (dataset.json)",
    recognizes=_recognizes,
    read=_read,
    official=_official,
    advice="",
)
