"""Dividing a corpus so that nobody is on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import REAL, TEST, TRAIN, VAL, SourceVideo, group_order


def assign_splits(
    videos: Iterable[SourceVideo], val: float, test: float, seed: int, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give every group its split.

    Groups that hold the same collections and methods are one stratum. Each stratum is ordered by a hash of group and
    seed and cut by the shares, so that every method is represented everywhere, and a group hardly ever moves when
    others come or go. Strata too small to be cut are cut together.

    Args:
        videos: of the whole corpus.
        val: share of groups for validation.
        test: share of groups for testing.
        seed: decides the order.
        kept: splits of groups that were assigned before; they stay.

    Returns:
        ``train``, ``val`` or ``test`` for each group, partners included.

    Raises:
        DataError: the corpus puts one group in two splits.
    """
    kinds: dict[str, set[tuple[str, str]]] = defaultdict(set)
    splits = dict(kept or {})
    given: dict[str, str] = {}
    for video in videos:
        kinds[video.group].add((video.label, video.method))
        if video.partner:
            kinds.setdefault(video.partner, set())
        if video.split and given.setdefault(video.group, video.split) != video.split:
            raise DataError(
                f"group {video.group} is in two splits, {given[video.group]} and {video.split}",
                advice="A person or a piece of footage must stay on one side: correct the column split.",
            )
    splits |= given
    for stratum in _strata(kinds, val, test):
        ordered = sorted(stratum, key=lambda group: (group_order(group, seed), group))
        for rank, group in enumerate(ordered):
            splits.setdefault(group, _cut((rank + 0.5) / len(ordered), val, test))
    return {group: splits[group] for group in kinds}


def crossing(videos: Iterable[SourceVideo], splits: Mapping[str, str]) -> list[SourceVideo]:
    """Fakes that join people of two splits: they can be in neither."""
    return [v for v in videos if v.partner and splits[v.partner] != splits[v.group]]


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
