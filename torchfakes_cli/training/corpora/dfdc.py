"""The Deepfake Detection Challenge: its training parts, its test set, and its preview.

::

    dfdc_train_part_N/metadata.json     {"x.mp4": {"label": "FAKE", "split": "train", "original": "y.mp4"}, …}
    test/labels.csv                     filename,label: 1 means fake
    dataset.json                        the preview: {"method_A/…/z.mp4": {"label", "set", "target_id", …}, …}

The training parts don't say who is in them. Recordings of one actor mostly lie in one part, so with several of them a
part is a group; with few, an original and its fakes are. The preview names its people: they stay apart, and a fake
keeps both.

Source: Dolhansky et al., "The DeepFake Detection Challenge (DFDC) Dataset" (2020), https://arxiv.org/abs/2006.07397.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    without_originals,
)
from torchfakes_cli.training.corpora.tables import table_columns, table_rows

_METADATA, _LABELS, _DATASET = "metadata.json", "labels.csv", "dataset.json"
#: With at least this number of parts each is a group; fewer can't be divided well.
_PARTS_AS_GROUPS = 4
#: The corpus does not say which of its methods made which fake.
_METHODS = {REAL: "original", FAKE: "DFDC"}


def _recognises(root: Path) -> bool:
    return next(_parts(root), None) is not None or next(_label_tables(root), None) is not None


def _files_named(root: Path, name: str) -> Iterator[Path]:
    """Files of a name at the top, or up to two folders below: archives are often unpacked into a folder each."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        yield from sorted(root.glob(pattern))


def _parts(root: Path) -> Iterator[Path]:
    """The lists of training parts; other programs' files may be named alike."""
    for path in _files_named(root, _METADATA):
        try:
            entries = read_json(path)
        except DataError:
            if path.parent.name.startswith("dfdc"):
                raise
            continue
        first = next(iter(entries.values()), None) if isinstance(entries, dict) else None
        if isinstance(first, dict) and "label" in first:
            yield path


def _label_tables(root: Path) -> Iterator[Path]:
    return (path for path in _files_named(root, _LABELS) if {"filename", "label"} <= set(table_columns(path)))


def _read(root: Path) -> Corpus:
    name = namer(root)
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    tables = list(_label_tables(root))
    tested = {table.parent for table in tables}
    parts = [path for path in _parts(root) if path.parent not in tested]
    for path in parts:
        entries = _entries(path)
        found = _present(path, entries, skipped, notes)
        group = f"part:{path.parent.name}" if len(parts) >= _PARTS_AS_GROUPS else ""
        videos += _family_members(path, entries, found, group, name, skipped)
    for table in tables:
        videos += _tests(table, name, skipped, notes)
    if 0 < len(parts) < _PARTS_AS_GROUPS:
        notes.append("DFDC doesn't name its people: with so few parts the same actor may be in two splits")
    notes += without_originals([video for video in videos if video.split != TEST])
    rest = (TRAIN, VAL) if any(video.split == TEST for video in videos) else SPLITS
    return Corpus(LAYOUT.name, tuple(videos), tuple(skipped), tuple(notes), rest=rest, official=True)


def _entries(path: Path) -> Mapping[str, Mapping[str, Any]]:
    entries = read_json(path)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise DataError("is no list of videos", path=path, advice='Expected {"x.mp4": {"label": "FAKE", …}, …}.')
    return entries


def _present(
    path: Path, names: Mapping[str, Any], skipped: list[Skipped], notes: list[str], folder: Path | None = None
) -> dict[str, Path]:
    """Listed files that are there, by the name they are listed as; reports absent and unlisted files."""
    folder = folder or path.parent
    found = {file.relative_to(folder).as_posix(): file for file in files_below(folder) if is_footage(file)}
    strays = sorted(found.keys() - names.keys())
    skipped += [Skipped(f"{folder.name}/{stray}", f"is not listed in {path.name}") for stray in strays]
    if absent := sorted(names.keys() - found.keys()):
        notes.append(f"{folder.name}: {len(absent)} of {len(names)} listed videos aren't there: {listed(absent)}")
    return {name: found[name] for name in names if name in found}


def _family_members(
    path: Path,
    entries: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Path],
    group: str,
    name: Callable[[Path], str],
    skipped: list[Skipped],
) -> Iterator[SourceVideo]:
    """The videos of one training part; originals come first, since fakes name them."""
    part = path.parent.name
    labels = {file: str(entry.get("label", "")).casefold() for file, entry in entries.items()}
    names = {file: name(found[file]) for file in found}
    for file in sorted(found, key=lambda file: (labels[file] != REAL, file)):
        if labels[file] not in (REAL, FAKE):
            skipped.append(Skipped(f"{part}/{file}", f"its label in {path.name} is neither REAL nor FAKE"))
            continue
        original = str(entries[file].get("original") or "") if labels[file] == FAKE else ""
        yield SourceVideo(
            found[file],
            names[file],
            labels[file],
            _METHODS[labels[file]],
            group or f"{part}/{original or file}",
            source=names.get(original, "") if labels.get(original) == REAL else "",
            split=TEST if entries[file].get("split") == TEST else "",
        )


def _tests(table: Path, name: Callable[[Path], str], skipped: list[Skipped], notes: list[str]) -> Iterator[SourceVideo]:
    labels = {row["filename"].replace("\\", "/"): row["label"] for _, row in table_rows(table)}
    # The competition's own archive has the videos in a folder beside the table.
    folder = table.parent
    if not any((folder / file).is_file() for file in labels):
        beside = (path for path in sorted(folder.glob("*/")) if any((path / file).is_file() for file in labels))
        folder = next(beside, folder)
    for file, path in _present(table, labels, skipped, notes, folder).items():
        if labels[file] not in ("0", "1"):
            skipped.append(Skipped(f"{folder.name}/{file}", f"its label in {table.name} is neither 0 nor 1"))
            continue
        label = FAKE if labels[file] == "1" else REAL
        yield SourceVideo(path, name(path), label, _METHODS[label], f"test:{Path(file).stem}", split=TEST)


def _recognises_preview(root: Path) -> bool:
    return (root / _DATASET).is_file()


def _read_preview(root: Path) -> Corpus:
    path = root / _DATASET
    entries = _entries(path)
    skipped: list[Skipped] = []
    notes: list[str] = []
    found = _present(path, entries, skipped, notes)
    name = namer(root)
    videos = []
    for file in sorted(found, key=lambda file: (str(entries[file].get("label")).casefold() != REAL, file)):
        entry = entries[file]
        label, target, source = (str(entry.get(key) or "") for key in ("label", "target_id", "swapped_id"))
        label = label.casefold()
        if label not in (REAL, FAKE) or not target:
            skipped.append(Skipped(file, f"{path.name} doesn't say whom it shows, or whether it is real"))
            continue
        videos.append(
            SourceVideo(
                found[file],
                name(found[file]),
                label,
                file.split("/")[0],
                f"person:{target}",
                split=TEST if entry.get("set") == TEST else "",
                partner=f"person:{source}" if label == FAKE and source not in ("", target) else "",
            )
        )
    rest = (TRAIN, VAL) if any(video.split == TEST for video in videos) else SPLITS
    return Corpus(PREVIEW_LAYOUT.name, tuple(videos), tuple(skipped), tuple(notes), rest=rest, official=True)


def _official(corpus: Corpus, folder: Path) -> Corpus:
    """The challenge's own test videos are always kept for testing; there is no more to follow."""
    if not any(video.split == TEST for video in corpus.videos):
        raise DataError("holds none of the official test videos", path=folder, advice="Leave --split out.")
    return replace(corpus, official=True)


LAYOUT = Layout(
    name="DFDC",
    signs="DFDC (dfdc_train_part_N/metadata.json, or test/labels.csv)",
    recognises=_recognises,
    read=_read,
    official=_official,
)
PREVIEW_LAYOUT = Layout(
    name="DFDC preview",
    signs="its preview (dataset.json)",
    recognises=_recognises_preview,
    read=_read_preview,
    official=_official,
)
