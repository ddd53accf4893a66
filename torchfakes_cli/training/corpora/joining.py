"""Making one group of what shows the same person or footage."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.training.corpora.base import REAL, Corpus, Skipped, SourceVideo, components


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
        # Unreadable files are told apart by name here, and reported when their turn comes.
        return os.fsencode(path)
