"""Corpus readers: which files are real or fake, how they were made, and whom they show.

Each module reads one layout, which is recognised from the tree. A *group* is a person or a piece of footage and never
lies on both sides of a split. A fake belongs to the group whose footage it shows, and knows the other one, whose face
was put in, unless both are one group anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import celebdf, deeperforensics, dfdc, faceforensics, folders
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
    group_order,
    listed,
    summarised,
)
from torchfakes_cli.training.corpora.folders import read_reals
from torchfakes_cli.training.corpora.selection import (
    BY_GROUPS,
    joined,
    select,
    with_groups,
    with_splits,
    without_duplicates,
)

__all__ = [
    "FAKE",
    "REAL",
    "SPLITS",
    "TEST",
    "TRAIN",
    "VAL",
    "Corpus",
    "Skipped",
    "SourceVideo",
    "group_order",
    "read_corpus",
    "select",
    "summarised",
]

#: The first that recognises a folder reads it.
_LAYOUTS: tuple[Layout, ...] = (
    faceforensics.LAYOUT,
    celebdf.LAYOUT,
    deeperforensics.LAYOUT,
    dfdc.PREVIEW_LAYOUT,
    dfdc.LAYOUT,
    folders.LAYOUT,
)


def read_corpus(root: Path, reals: Sequence[Path] = (), split: str = BY_GROUPS, groups: Path | None = None) -> Corpus:
    """Read a corpus, and folders of further genuine videos or stills.

    Args:
        root: of the corpus.
        reals: folders of :func:`~torchfakes_cli.training.corpora.folders.read_reals`.
        split: as for :func:`~torchfakes_cli.training.corpora.selection.with_splits`.
        groups: CSV that names videos of the same person or footage; see
            :func:`~torchfakes_cli.training.corpora.selection.with_groups`.

    Raises:
        DataError: the layout isn't known, a list contradicts itself, or nothing usable is there.
    """
    if not root.is_dir():
        raise DataError("is not a folder", path=root, advice="Give the folder that holds the corpus.")
    layout = next((layout for layout in _LAYOUTS if layout.recognises(root)), None)
    if layout is None:
        raise _unknown_layout(root)
    corpus = _with_reals(layout.read(root), reals)
    if layout.completed is not None:
        corpus = layout.completed(corpus)
    if not corpus.videos:
        reasons = "; ".join(summarised(corpus.skipped))
        raise DataError(
            f"holds no video or picture that can be used{f' ({reasons})' if reasons else ''}",
            path=root,
            advice="Correct the list or the names of the files." if reasons else "Check the path.",
        )
    corpus = with_splits(corpus, layout, root, split)
    if groups is not None:
        corpus = with_groups(corpus, root, groups)
    if layout is folders.LAYOUT:
        corpus = replace(corpus, notes=(*folders.unused_lists(root, corpus.lists), *corpus.notes))
    return joined(without_duplicates(corpus))


def _with_reals(corpus: Corpus, folders_of_reals: Sequence[Path]) -> Corpus:
    videos = list(corpus.videos)
    names_taken = {video.video.split("/")[0] for video in videos}
    paths_taken = {video.path.resolve() for video in videos}
    for folder in folders_of_reals:
        extra = read_reals(folder, names_taken, paths_taken)
        videos += extra
        names_taken |= {video.video.split("/")[0] for video in extra}
        paths_taken |= {video.path.resolve() for video in extra}
    videos.sort(key=lambda video: (video.label == FAKE, video.video))
    return replace(corpus, videos=tuple(videos))


def _unknown_layout(root: Path) -> DataError:
    found = listed(sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir()))
    *first, last = (layout.signs for layout in _LAYOUTS)
    return DataError(f"no known layout; found {found}", path=root, advice=f"Known are {', '.join(first)}, or {last}.")
