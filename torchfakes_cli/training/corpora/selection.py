"""The part of a corpus that is worked on."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
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
)
from torchfakes_cli.training.corpora.tables import located, table_columns, table_rows


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
            raise DataError(f"no fakes made by {', '.join(sorted(missing))}", advice=f"Found: {listed(known)}.")
        videos = [video for video in videos if video.label == REAL or video.method.casefold() in wanted]
    if compression:
        known = sorted({video.compression for video in videos if video.compression})
        if compression not in known:
            raise DataError(f"nothing is compressed as {compression}", advice=f"Found: {listed(known)}.")
        videos = [video for video in videos if video.compression in ("", compression)]
    if limit is not None:
        videos = _limited(videos, limit, seed)
    return videos


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


#: What decides the splits if nothing else is asked for.
BY_GROUPS = "groups"
_OFFICIAL = "official"


def with_splits(corpus: Corpus, layout: Layout, root: Path, split: str) -> Corpus:
    """Put videos where the user wants them.

    Args:
        corpus: as read.
        layout: of the corpus.
        root: of the corpus.
        split: ``groups`` for nothing beyond what the corpus itself says, ``official`` for the lists that lie in the
            corpus, ``official:DIR`` for those in a folder, or the path of a CSV.

    Raises:
        DataError: there are no such lists, or they can't be used.
    """
    if split == BY_GROUPS:
        return corpus
    kind, _, place = split.partition(":")
    if kind != _OFFICIAL:
        return _with_split_table(corpus, root, Path(split))
    if layout.official is None:
        raise DataError(f"{layout.name} have no official splits", path=root, advice="Use --split CSV.")
    folder = Path(place) if place else root
    if not folder.is_dir():
        raise DataError("is not a folder", path=folder, advice="--split official:DIR takes the folder of the lists.")
    return layout.official(corpus, folder)


def with_groups(corpus: Corpus, root: Path, table: Path) -> Corpus:
    """Link the groups of videos that a CSV with the columns video (or path) and group says are one.

    A row may also name a person or a sequence that only has fakes here.

    Raises:
        DataError: it isn't such a table.
    """
    find = _finder(corpus, root, table, "group")
    known = {group for video in corpus.videos for group in (video.group, video.partner)}
    known.update(group for link in corpus.links for group in link)
    by_bare_name: dict[str, list[str]] = defaultdict(list)
    for group in sorted(known):
        by_bare_name[group.rpartition(":")[2]].append(group)
    by_name: dict[str, list[str]] = defaultdict(list)
    strangers = []
    for _, row in table_rows(table):
        groups = [video.group for video in find(row)] or by_bare_name.get(row.get("video", ""), [])
        if not groups:
            strangers.append(_name(row))
        if name := row["group"]:
            by_name[name] += groups
    links = tuple((groups[0], other) for groups in by_name.values() for other in groups[1:])
    # A table of splits that names groups as well has been read once before.
    notes = tuple(dict.fromkeys((*corpus.notes, *_strangers(strangers, table))))
    lists = tuple(dict.fromkeys((*corpus.lists, table)))
    return replace(corpus, links=(*corpus.links, *links), notes=notes, lists=lists)


def _with_split_table(corpus: Corpus, root: Path, table: Path) -> Corpus:
    """Put videos where a CSV with the columns video (or path) and split says."""
    find = _finder(corpus, root, table, "split")
    split_of: dict[str, str] = {}
    strangers = []
    for line, row in table_rows(table):
        split = split_named(row["split"], table, line)
        named = find(row)
        if not named:
            strangers.append(_name(row))
        for video in named:
            if split and split_of.setdefault(video.video, split) != split:
                raise DataError(
                    f"line {line} puts {video.video} into {split}, an earlier one into {split_of[video.video]}",
                    path=table,
                    advice="Name each video once.",
                )
    videos = tuple(replace(video, split=split_of.get(video.video, "")) for video in corpus.videos)
    unnamed = [video.video for video in videos if not video.split]
    notes = [*corpus.notes, *_strangers(strangers, table)]
    if unnamed:
        notes.append(f"{len(unnamed)} videos are not in {table.name} and go where their people are: {listed(unnamed)}")
    placed = replace(corpus, videos=videos, notes=tuple(notes), official=False, lists=(*corpus.lists, table))
    return with_groups(placed, root, table) if "group" in table_columns(table) else placed


def _finder(corpus: Corpus, root: Path, table: Path, column: str) -> Callable[[dict[str, str]], list[SourceVideo]]:
    """Make a function that finds the videos a row names.

    A ``path`` is one file, from the corpus or absolute. A ``video`` is a name as in the manifest, or that of a file
    without its folder and suffix: such as ``071`` in all its compressions, or ``071_054`` of every method.
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
            video = by_path.get(located(root, row["path"]).resolve())
            return [] if video is None else [video]
        name = row.get("video", "")
        return by_name.get(name) or by_name.get(name.replace("\\", "/"), [])

    return find


def _name(row: dict[str, str]) -> str:
    return row.get("path") or row.get("video", "")


def _strangers(names: list[str], table: Path) -> tuple[str, ...]:
    return (f"{table.name} names what isn't here, in {len(names)} lines: {listed(names)}",) if names else ()


def joined(corpus: Corpus) -> Corpus:
    """Follow the links between groups: each takes the first name, in order of the alphabet, that it is linked with."""
    root = components(corpus.links)
    videos = []
    for video in corpus.videos:
        group, partner = root.get(video.group, video.group), root.get(video.partner, video.partner)
        videos.append(replace(video, group=group, partner="" if partner == group else partner))
    return replace(corpus, videos=tuple(videos), links=())


def without_duplicates(corpus: Corpus) -> Corpus:
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

    def settled(video: SourceVideo) -> SourceVideo:
        source = kept_for.get(video.source)
        return replace(video, source=source.video) if source is not None and source.label == REAL else video

    return replace(
        corpus,
        videos=tuple(settled(video) for video in corpus.videos if video.video not in kept_for),
        skipped=(
            *corpus.skipped,
            *(Skipped(name, f"has the same content as {kept.video}") for name, kept in kept_for.items()),
        ),
        links=(*corpus.links, *links),
    )


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        # Unreadable files are distinguished by name here, and reported when they are read.
        return os.fsencode(path)
