"""Reading a corpus: files by layout, originals of fakes, splits and groups that the user gives, duplicates, limits."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import dfdc, folders, published
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
    Corpus,
    Layout,
    Skipped,
    SourceVideo,
    components,
    group_order,
    listed,
    split_named,
    summarized,
)
from torchfakes_cli.training.corpora.tables import located, table_columns, table_rows, unknown_names, unused_tables

#: The first that recognizes a folder reads it.
_LAYOUTS = (*published.LAYOUTS, dfdc.LAYOUT, folders.LAYOUT)


def read_corpus(root: Path, reals: Sequence[Path] = (), split: str = "groups", groups: Path | None = None) -> Corpus:
    """Read a corpus, and folders of further genuine videos or stills.

    Args:
        root: folder of the corpus.
        reals: further folders, as for ``folders.read_reals``.
        split: ``groups`` for what the corpus itself says, ``official`` for the lists in the corpus, ``official:DIR``
            for those in a folder, or the path of a CSV.
        groups: CSV that names videos of the same person or footage.

    Raises:
        DataError: the layout isn't known, a list contradicts itself, or nothing usable is there.
    """
    if not root.is_dir():
        raise DataError("is not a folder", path=root, advice="Give the folder that holds the corpus.")
    layout = next((layout for layout in _LAYOUTS if layout.recognizes(root)), None)
    if layout is None:
        found = listed(sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir()))
        *first, last = (layout.signs for layout in _LAYOUTS)
        raise DataError(
            f"no known layout; found {found}", path=root, advice=f"Known are {', '.join(first)}, or {last}."
        )
    corpus = _with_sources(_with_reals(layout.read(root), reals), layout.advice)
    if not corpus.videos:
        reasons = "; ".join(summarized(corpus.skipped))
        raise DataError(
            f"holds no video or picture that can be used{f' ({reasons})' if reasons else ''}",
            path=root,
            advice="Correct the list or the names of the files." if reasons else "Check the path.",
        )
    corpus = _with_splits(corpus, layout, root, split)
    if groups is not None:
        corpus = _with_table(corpus, root, groups, "group")
    if layout is folders.LAYOUT:
        corpus = replace(corpus, notes=(*folders.unused_lists(root, corpus), *corpus.notes))
    elif layout is not dfdc.LAYOUT:
        corpus = replace(corpus, notes=(*corpus.notes, *unused_tables(root, corpus.lists)))
    return _joined(_without_duplicates(corpus))


def select(
    corpus: Corpus, methods: Sequence[str] = (), compression: str | None = None, limit: int | None = None, seed: int = 0
) -> list[SourceVideo]:
    """Select files: fakes of some methods (in any case), one compression, and a number of each collection and method.

    The limit chooses group by group, by a hash with the seed. Files without a compression stay.

    Raises:
        DataError: the corpus has no such method or compression.
    """
    videos = list(corpus.videos)
    if methods:
        wanted = {method.casefold() for method in methods}
        known = sorted({video.method for video in videos if video.label == FAKE})
        if missing := wanted - {method.casefold() for method in known}:
            raise DataError(f"no fakes made by {', '.join(sorted(missing))}", advice=f"Found: {listed(known)}.")
        videos = [video for video in videos if video.label == REAL or video.method.casefold() in wanted]
    if compression:
        known = sorted({video.compression for video in videos if video.compression})
        if compression not in known:
            raise DataError(f"nothing is compressed as {compression}", advice=f"Found: {listed(known)}.")
        videos = [video for video in videos if video.compression in ("", compression)]
    if limit is None:
        return videos
    taken: Counter[tuple[str, str]] = Counter()
    chosen = set()
    # Not the order of the splits, or a trial would see one split only.
    for video in sorted(videos, key=lambda v: (group_order(f"limit/{v.group}", seed), v.video)):
        kind = (video.label, video.method)
        if taken[kind] < limit:
            taken[kind] += 1
            chosen.add(video.video)
    return [video for video in videos if video.video in chosen]


def _with_reals(corpus: Corpus, further: Sequence[Path]) -> Corpus:
    videos, notes = list(corpus.videos), list(corpus.notes)
    paths_taken = {video.path.resolve() for video in videos} if further else set()
    for folder in further:
        names_taken = {video.video.split("/")[0] for video in videos}
        extra, more = folders.read_reals(folder, names_taken, paths_taken)
        videos += extra
        paths_taken |= {video.path.resolve() for video in extra}
        notes += more
    videos.sort(key=lambda video: (video.label == FAKE, video.video))
    return replace(corpus, videos=tuple(videos), notes=tuple(notes))


def _with_sources(corpus: Corpus, advice: str | None) -> Corpus:
    """Find the original of each fake by its footage, and link their groups; ``advice`` is that of the layout."""
    originals: dict[tuple[str, str], list[str]] = defaultdict(list)
    for video in corpus.videos:
        if video.label == REAL and video.footage:
            for compression in {video.compression, ""}:
                originals[video.footage, compression].append(video.video)

    def original(video: SourceVideo) -> str:
        candidates = originals[video.footage, video.compression]
        return candidates[0] if len(candidates) == 1 else ""

    videos = [
        replace(v, source=original(v)) if v.label == FAKE and v.footage and not v.source else v for v in corpus.videos
    ]
    # A fake and its original are one piece of footage, regardless of the names of their groups.
    group_of = {video.video: video.group for video in videos}
    links = [(video.group, group_of[video.source]) for video in videos if video.source]
    fakes = [video for video in videos if video.label == FAKE]
    alone = [video.path.stem for video in fakes if video.footage and not video.source]
    notes = corpus.notes
    if alone and advice is not None:
        note = f"{len(alone)} of {len(fakes)} fakes have no original here and are cropped at their own faces"
        notes = (*notes, f"{note}: {listed(alone)}. {advice}".strip())
    return replace(corpus, videos=tuple(videos), links=(*corpus.links, *links), notes=notes)


def _with_splits(corpus: Corpus, layout: Layout, root: Path, split: str) -> Corpus:
    """Apply the splits that the user asks for, as for ``read_corpus``."""
    if split == "groups":
        return corpus
    kind, _, place = split.partition(":")
    if kind != "official":
        return _with_table(corpus, root, Path(split), "split")
    if layout.official is None:
        raise DataError(f"{layout.name} have no official splits", path=root, advice="Use --split CSV.")
    folder = Path(place) if place else root
    if not folder.is_dir():
        raise DataError("is not a folder", path=folder, advice="--split official:DIR takes the folder of the lists.")
    return layout.official(corpus, folder)


def _with_table(corpus: Corpus, root: Path, table: Path, column: str) -> Corpus:
    """Apply a CSV that names videos and their splits or groups.

    It has the columns video (or path) and ``column`` (split or group); with splits, groups are used too. A row with a
    group may also name a person or a sequence that only has fakes here.
    """
    find = _finder(corpus, root, table, column)
    by_bare_name: dict[str, list[str]] = defaultdict(list)
    known = {group for video in corpus.videos for group in (video.group, video.partner)}
    for group in sorted(known.union(*corpus.links) - {""}):
        by_bare_name[group.rpartition(":")[2]].append(group)
    split_of: dict[str, str] = {}
    by_name: dict[str, list[str]] = defaultdict(list)
    unknown = []
    for line, row in table_rows(table):
        named = find(row)
        groups = [video.group for video in named] or by_bare_name.get(row.get("video", ""), [])
        if not groups:
            unknown.append(row.get("path") or row.get("video", ""))
        if name := row.get("group"):
            by_name[name] += groups
        split = split_named(row["split"], table, line) if column == "split" else ""
        for video in named if split else ():
            if split_of.setdefault(video.video, split) != split:
                raise DataError(
                    f"line {line} puts {video.video} into {split}, an earlier one into {split_of[video.video]}",
                    path=table,
                    advice="Name each video once.",
                )
    links = [(groups[0], other) for groups in by_name.values() for other in groups[1:]]
    notes = [*corpus.notes, *unknown_names(unknown, table)]
    if column == "split":
        videos = tuple(replace(video, split=split_of.get(video.video, "")) for video in corpus.videos)
        if unnamed := [video.video for video in videos if not video.split]:
            notes.append(
                f"{len(unnamed)} videos are not in {table.name} and go where their people are: {listed(unnamed)}"
            )
        corpus = replace(corpus, videos=videos, official=False)
    return replace(corpus, links=(*corpus.links, *links), notes=tuple(notes), lists=(*corpus.lists, table))


def _finder(corpus: Corpus, root: Path, table: Path, column: str) -> Callable[[dict[str, str]], list[SourceVideo]]:
    """Return a function that finds the videos of a row.

    A ``path`` is one file. A ``video`` is a name as in the manifest, or that of a file without its folder and suffix,
    such as ``071`` in all its compressions, or ``071_054`` of every method.
    """
    try:
        columns = set(table_columns(table))
    except DataError as error:
        raise DataError(error.cause, path=table, advice="Expected groups, official, or a CSV file.") from error
    if column not in columns or not columns & {"path", "video"}:
        raise DataError(
            f"lacks the columns video (or path) and {column}", path=table, advice="Name the columns in the first line."
        )
    by_path = {video.path.resolve(): video for video in corpus.videos}
    by_name: dict[str, list[SourceVideo]] = defaultdict(list)
    for video in corpus.videos:
        for name in {video.video, f"{video.video}{video.path.suffix}", video.path.stem, video.path.name}:
            by_name[name].append(video)

    def find(row: dict[str, str]) -> list[SourceVideo]:
        if row.get("path"):
            video = by_path.get(Path(os.path.realpath(located(root, row["path"]))))
            return [] if video is None else [video]
        name = row.get("video", "")
        return by_name.get(name) or by_name.get(name.replace("\\", "/"), [])

    return find


def _joined(corpus: Corpus) -> Corpus:
    """Give linked groups one name, the alphabetically first."""
    root = components(corpus.links)
    videos = []
    for video in corpus.videos:
        group, partner = root.get(video.group, video.group), root.get(video.partner, video.partner)
        videos.append(replace(video, group=group, partner="" if partner == group else partner))
    return replace(corpus, videos=tuple(videos), links=())


def _without_duplicates(corpus: Corpus) -> Corpus:
    """Keep the first of files with the same content, and link their groups: a copy must not cross a split."""
    by_size: dict[int, list[SourceVideo]] = defaultdict(list)
    for video in corpus.videos:
        by_size[video.path.stat().st_size].append(video)
    kept_for: dict[str, SourceVideo] = {}
    for size, alike in by_size.items():
        first: dict[bytes, SourceVideo] = {}
        for video in alike if size and len(alike) > 1 else ():
            kept = first.setdefault(_digest(video.path), video)
            if kept is not video:
                kept_for[video.video] = kept
    links = [(v.group, kept_for[v.video].group) for v in corpus.videos if v.video in kept_for]

    def with_kept_source(video: SourceVideo) -> SourceVideo:
        source = kept_for.get(video.source)
        return replace(video, source=source.video) if source is not None and source.label == REAL else video

    label_of = {video.video: video.label for video in corpus.videos}
    copies = tuple(
        Skipped(
            name,
            f"has the same content as {'another' if label_of[name] == kept.label else 'a genuine'} file",
            kept.video,
        )
        for name, kept in kept_for.items()
    )
    return replace(
        corpus,
        videos=tuple(with_kept_source(video) for video in corpus.videos if video.video not in kept_for),
        skipped=(*corpus.skipped, *copies),
        links=(*corpus.links, *links),
    )


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        # Unreadable files are distinguished by name here, and reported when they are read.
        return os.fsencode(path)
