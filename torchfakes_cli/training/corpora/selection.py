"""The part of a corpus that is worked on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import FAKE, REAL, Corpus, SourceVideo, group_order, listed


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
