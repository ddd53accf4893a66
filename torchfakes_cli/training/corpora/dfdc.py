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

from collections.abc import Iterator, Mapping
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
)
from torchfakes_cli.training.corpora.tables import table_columns, table_rows

_METADATA, _LABELS, _DATASET = "metadata.json", "labels.csv", "dataset.json"
#: Smallest number of parts that are groups; fewer can't be divided well.
_PARTS_AS_GROUPS = 4
#: The corpus does not say which of its methods made which fake.
_METHODS = {REAL: "original", FAKE: "DFDC"}


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


class _Reader:
    """Reads the lists of a corpus and collects what is missing."""

    def __init__(self, root: Path) -> None:
        self._name = namer(root)
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []

    def metadata(self, path: Path, group: str) -> Iterator[SourceVideo]:
        """Yield the videos of a JSON list.

        Args:
            path: path of the list.
            group: group of videos whose people aren't named; empty for one per original.
        """
        entries = read_json(path)
        if not all(isinstance(entry, dict) for entry in entries.values()):
            raise DataError("is no list of videos", path=path, advice='Expected {"x.mp4": {"label": "FAKE", …}, …}.')
        for file, found in self._present(path, entries, path.parent):
            entry = entries[file]
            label, original, target, source = (
                str(entry.get(key) or "") for key in ("label", "original", "target_id", "swapped_id")
            )
            label = label.casefold()
            if label not in (REAL, FAKE):
                self.skipped.append(
                    Skipped(f"{path.parent.name}/{file}", f"its label in {path.name} is neither REAL nor FAKE")
                )
                continue
            footage = f"{path.parent.name}/{original or file}"
            split = TEST if TEST in (entry.get("split"), entry.get("set")) else ""
            video = SourceVideo(found, self._name(found), label, _METHODS[label], group or footage, split=split)
            if path.name != _DATASET:
                yield replace(video, footage=footage)
            elif target:
                partner = f"person:{source}" if label == FAKE and source not in ("", target) else ""
                yield replace(video, method=file.split("/")[0], group=f"person:{target}", partner=partner)
            else:
                self.skipped.append(Skipped(file, f"{path.name} doesn't say whom it shows"))

    def tests(self, table: Path) -> Iterator[SourceVideo]:
        """Yield the videos of a table of labels."""
        labels = {row["filename"].replace("\\", "/"): row["label"] for _, row in table_rows(table)}
        # The competition's own archive has the videos in a folder beside the table.
        folders = (table.parent, *sorted(table.parent.glob("*/")))
        folder = next((f for f in folders if any((f / file).is_file() for file in labels)), table.parent)
        for file, path in self._present(table, labels, folder):
            if labels[file] not in ("0", "1"):
                self.skipped.append(Skipped(f"{folder.name}/{file}", f"its label in {table.name} is neither 0 nor 1"))
                continue
            label = FAKE if labels[file] == "1" else REAL
            yield SourceVideo(path, self._name(path), label, _METHODS[label], f"test:{Path(file).stem}", split=TEST)

    def _present(self, path: Path, names: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Path]]:
        """Yield listed files that exist, with the names in the list; report absent and unlisted files."""
        found = {file.relative_to(folder).as_posix(): file for file in files_below(folder) if is_footage(file)}
        strays = sorted(found.keys() - names.keys())
        self.skipped += [Skipped(f"{folder.name}/{stray}", f"is not listed in {path.name}") for stray in strays]
        if absent := sorted(names.keys() - found.keys()):
            self.notes.append(
                f"{folder.name}: {len(absent)} of {len(names)} listed videos aren't there: {listed(absent)}"
            )
        yield from ((name, found[name]) for name in sorted(names) if name in found)


def _read(root: Path) -> Corpus:
    reader = _Reader(root)
    tables = _label_tables(root)
    tested = {table.parent for table in tables}
    parts = [path for path in _metadata_files(root) if path.parent not in tested]
    videos: list[SourceVideo] = []
    for path in parts:
        group = f"part:{path.parent.name}" if len(parts) >= _PARTS_AS_GROUPS else ""
        videos += reader.metadata(path, group)
    for table in tables:
        videos += reader.tests(table)
    preview = any(path.name == _DATASET for path in parts)
    if 0 < len(parts) < _PARTS_AS_GROUPS and not preview:
        reader.notes.append("DFDC doesn't name its people: with so few parts the same actor may be in two splits")
    videos.sort(key=lambda video: video.label == FAKE)
    rest = (TRAIN, VAL) if any(video.split == TEST for video in videos) else SPLITS
    name = "DFDC preview" if preview else LAYOUT.name
    return Corpus(name, tuple(videos), tuple(reader.skipped), tuple(reader.notes), rest=rest, official=True)


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
