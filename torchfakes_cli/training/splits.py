"""Dividing a corpus so that nobody is on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import REAL, TEST, TRAIN, VAL, Corpus, SourceVideo, group_order

#: Where official lists put one person into several splits, the first of these that they name is kept.
_STRONGEST = (TEST, VAL, TRAIN)


def assign_splits(
    corpus: Corpus, val: float, test: float, seed: int, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give every group its split.

    What the corpus says of its videos comes first, and holds for all who are seen in them. Groups that are left and
    hold the same collections and methods are one stratum. Each stratum is ordered by a hash of group and seed and cut
    by the shares, so that every method is represented everywhere, and a group hardly ever moves when others come or
    go. Strata too small to be cut are cut together.

    Args:
        corpus: all of it.
        val: share of the groups for validation.
        test: share of the groups for testing.
        seed: decides the order.
        kept: splits of groups that were assigned before; they stay.

    Returns:
        ``train``, ``val`` or ``test`` for each group, partners included.

    Raises:
        DataError: the corpus puts one group in two splits, and these aren't official.
    """
    kinds: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for video in corpus.videos:
        kinds[video.group].add((video.label, video.method))
        if video.partner:
            kinds.setdefault(video.partner, set())
    given = _given(corpus)
    splits = {group: split for group, split in (kept or {}).items() if split in corpus.rest} | given
    val, test = (share if split in corpus.rest else 0.0 for share, split in ((val, VAL), (test, TEST)))
    strata = _strata({group: held for group, held in kinds.items() if group not in given}, val, test)
    for stratum in strata:
        ordered = sorted(stratum, key=lambda group: (group_order(group, seed), group))
        for rank, group in enumerate(ordered):
            cut = _cut((rank + 0.5) / len(ordered), val, test)
            splits.setdefault(group, cut if cut in corpus.rest else corpus.rest[0])
    return {group: splits[group] for group in kinds}


def left_out(corpus: Corpus, splits: Mapping[str, str]) -> Iterator[tuple[SourceVideo, str]]:
    """Videos that can be in no split, each with the reason.

    Args:
        corpus: all of it.
        splits: of its groups.
    """
    for video in corpus.videos:
        split = splits[video.group]
        if video.partner and splits[video.partner] != split:
            yield video, "joins people of two splits"
        elif video.split and video.split != split:
            yield video, f"is listed for {video.split}, but shows people or footage of {split}"
        elif not video.split and split not in corpus.rest:
            yield video, f"shows people or footage of the official {split} videos, but is none of them"


def _given(corpus: Corpus) -> dict[str, str]:
    """The split of each group that the corpus speaks of."""
    named: dict[str, set[str]] = defaultdict(set)
    for video in corpus.videos:
        if video.split:
            named[video.group].add(video.split)
    if not corpus.official:
        for group, splits in sorted(named.items()):
            if len(splits) > 1:
                raise DataError(
                    f"group {group} is in two splits, {' and '.join(s for s in _STRONGEST if s in splits)}",
                    advice="A person or a piece of footage must stay on one side: correct the column split.",
                )
    given = {group: _strongest(splits) for group, splits in named.items()}
    # Whose face was put in belongs there as well, unless footage of their own has told already.
    partners: dict[str, set[str]] = defaultdict(set)
    for video in corpus.videos:
        if video.split and video.partner and video.partner not in given:
            partners[video.partner].add(video.split)
    return given | {group: _strongest(splits) for group, splits in partners.items()}


def _strongest(splits: Iterable[str]) -> str:
    return min(splits, key=_STRONGEST.index)


def _strata(kinds: Mapping[str, set[tuple[str, str]]], val: float, test: float) -> list[Sequence[str]]:
    strata: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for group, held in kinds.items():
        strata[tuple(sorted(held))].append(group)
    smallest_share = min((share for share in (val, test) if share > 0), default=1.0)
    large, small_real, small_fake = [], [], []
    for kind, groups in strata.items():
        # The first group of a stratum sits at 0.5 / n: with fewer groups the smallest share would get none.
        if 0.5 / len(groups) < smallest_share:
            large.append(groups)
        elif any(label == REAL for label, _ in kind):
            small_real += groups
        else:
            small_fake += groups
    return [*large, small_real, small_fake]


def _cut(position: float, val: float, test: float) -> str:
    if position < test:
        return TEST
    return VAL if position < test + val else TRAIN
