"""Corpus readers: which files are real or fake, how they were made, and whom they show.

Each reader handles some layouts, which are recognized by their folders. A *group* is a person or a piece of footage and
is never split. A fake belongs to the group whose footage it shows, and names the other one, whose face was put in,
unless both are one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import dfdc, folders, published
from torchfakes_cli.training.corpora.base import FAKE, Corpus, listed, summarized
from torchfakes_cli.training.corpora.selection import (
    BY_GROUPS,
    joined,
    select,
    with_sources,
    with_splits,
    with_table,
    without_duplicates,
)
from torchfakes_cli.training.corpora.tables import unused_tables

__all__ = ["read_corpus", "select"]

#: The first that recognizes a folder reads it.
_LAYOUTS = (*published.LAYOUTS, dfdc.LAYOUT, folders.LAYOUT)


def read_corpus(root: Path, reals: Sequence[Path] = (), split: str = BY_GROUPS, groups: Path | None = None) -> Corpus:
    """Read a corpus, and folders of further genuine videos or stills.

    Args:
        root: folder of the corpus.
        reals: further folders, as for ``folders.read_reals``.
        split: as for ``selection.with_splits``.
        groups: CSV that names videos of the same person or footage, as for ``selection.with_table``.

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
    corpus = with_sources(_with_reals(layout.read(root), reals), layout.advice)
    if not corpus.videos:
        reasons = "; ".join(summarized(corpus.skipped))
        raise DataError(
            f"holds no video or picture that can be used{f' ({reasons})' if reasons else ''}",
            path=root,
            advice="Correct the list or the names of the files." if reasons else "Check the path.",
        )
    corpus = with_splits(corpus, layout, root, split)
    if groups is not None:
        corpus = with_table(corpus, root, groups, "group")
    if layout is folders.LAYOUT:
        corpus = replace(corpus, notes=(*folders.unused_lists(root, corpus), *corpus.notes))
    elif layout is not dfdc.LAYOUT:
        corpus = replace(corpus, notes=(*corpus.notes, *unused_tables(root, corpus.lists)))
    return joined(without_duplicates(corpus))


def _with_reals(corpus: Corpus, further: Sequence[Path]) -> Corpus:
    videos, notes = list(corpus.videos), list(corpus.notes)
    for folder in further:
        names_taken = {video.video.split("/")[0] for video in videos}
        extra, more = folders.read_reals(folder, names_taken, {video.path.resolve() for video in videos})
        videos += extra
        notes += more
    videos.sort(key=lambda video: (video.label == FAKE, video.video))
    return replace(corpus, videos=tuple(videos), notes=tuple(notes))
