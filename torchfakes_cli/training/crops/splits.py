"""Split a corpus so that no person or footage is in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import REAL, TEST, TRAIN, VAL, Corpus, SourceVideo, components, group_order

#: People swapped with each other stay together if they are at most this share of all who were swapped.
CIRCLE_SHARE = 0.1
#: Order in which splits are kept if official lists put one person into several.
_STRONGEST = (TEST, VAL, TRAIN)


def assign_splits(
    corpus: Corpus, val: float, test: float, seed: int, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Assign a split to every group, partners included.

    The splits that the corpus gives come first, and hold for everyone seen in the video. The remaining groups with the
    same collections and methods are one stratum. Each stratum is ordered by a hash of group and seed and cut by the
    shares, so that every split has every method, and a group hardly ever moves when others come or go. Strata too small
    to be cut are cut together. Groups stay where earlier runs (``kept``) have put them.

    Raises:
        DataError: the corpus puts one group in two splits, and these aren't official.
    """
    kinds: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for video in corpus.videos:
        kinds[video.group].add((video.label, video.method))
        if video.partner:
            kinds.setdefault(video.partner, set())
    given = _given(corpus)
    earlier = {group: split for group, split in (kept or {}).items() if split in corpus.rest}
    val, test = (share if split in corpus.rest else 0.0 for share, split in ((val, VAL), (test, TEST)))
    circle = _circles(corpus, [group for group in kinds if group not in given], earlier)
    circle_kinds: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for group, name in circle.items():
        circle_kinds[name] |= kinds[group]
    splits: dict[str, str] = {}
    for stratum in _strata(circle_kinds, val, test):
        ordered = sorted(stratum, key=lambda name: (group_order(name, seed), name))
        for rank, name in enumerate(ordered):
            position = (rank + 0.5) / len(ordered)
            cut = TEST if position < test else VAL if position < test + val else TRAIN
            splits[name] = cut if cut in corpus.rest else corpus.rest[0]
    for group, name in circle.items():
        if group in earlier:
            splits[name] = earlier[group]
    return {group: given[group] if group in given else splits[circle[group]] for group in kinds}


def _circles(corpus: Corpus, groups: Sequence[str], earlier: Mapping[str, str]) -> dict[str, str]:
    """Return the circle of each group: people whose faces were swapped with each other's, if these are few.

    A circle goes to one split, so that no fake is lost. If nearly everyone was swapped with everyone, as in Celeb-DF,
    each is a circle of their own, and so is everyone of a circle that earlier runs have divided.
    """
    open_groups = set(groups)
    pairs = {(v.group, v.partner) for v in corpus.videos if v.partner and {v.group, v.partner} <= open_groups}
    members: dict[str, list[str]] = defaultdict(list)
    for group, name in components(sorted(pairs)).items():
        members[name].append(group)
    circle = {group: group for group in groups}
    paired = sum(len(people) for people in members.values())
    for name, people in members.items():
        divided = {earlier[group] for group in people if group in earlier}
        if len(people) <= max(2, CIRCLE_SHARE * paired) and len(divided) <= 1:
            circle.update(dict.fromkeys(people, name))
    return circle


def left_out(corpus: Corpus, splits: Mapping[str, str]) -> Iterator[tuple[SourceVideo, str]]:
    """Yield videos that fit in no split, with the reasons."""
    for video in corpus.videos:
        split = splits[video.group]
        if video.partner and splits[video.partner] != split:
            yield video, "joins people of two splits"
        elif video.split and video.split != split:
            yield video, f"is listed for {video.split}, but shows people or footage of {split}"
        elif not video.split and split not in corpus.rest:
            yield video, f"shows people or footage of the official {split} videos, but is none of them"


def _given(corpus: Corpus) -> dict[str, str]:
    """Return the split of each group that the corpus gives."""
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
    given = {group: min(splits, key=_STRONGEST.index) for group, splits in named.items()}
    # The person whose face was put in goes to the same split, unless their own footage already has one.
    partners: dict[str, set[str]] = defaultdict(set)
    for video in corpus.videos:
        if video.split and video.partner and video.partner not in given:
            partners[video.partner].add(video.split)
    return given | {group: min(splits, key=_STRONGEST.index) for group, splits in partners.items()}


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
