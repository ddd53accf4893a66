from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import Corpus, SourceVideo
from torchfakes_cli.training.crops.splits import assign_splits, left_out


def _video(name: str, group: str, label: str = "real", method: str = "film", **more: str) -> SourceVideo:
    return SourceVideo(Path(name), name, label, method, group, **more)


def _corpus(videos: Iterable[SourceVideo], **more: Any) -> Corpus:
    return Corpus("any", tuple(videos), **more)


_VIDEOS = st.lists(
    st.builds(
        _video,
        name=st.uuids().map(str),
        group=st.integers(0, 30).map(str),
        label=st.sampled_from(["real", "fake"]),
        method=st.sampled_from(["film", "phone", "swap"]),
    ),
    min_size=1,
    max_size=60,
)
_SHARES = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@given(videos=_VIDEOS, shares=_SHARES, seed=st.integers(0, 9))
def test_every_group_has_one_split(videos: list[SourceVideo], shares: tuple[float, float], seed: int) -> None:
    splits = assign_splits(_corpus(videos), *shares, seed)
    assert set(splits) == {video.group for video in videos}
    assert set(splits.values()) <= {"train", "val", "test"}
    assert splits == assign_splits(_corpus(reversed(videos)), *shares, seed)


def test_methods_have_their_share_of_every_split() -> None:
    videos = [_video(f"{method}{n}", f"{method}{n}", "fake", method) for method in "ab" for n in range(40)]
    videos += [_video(f"r{n}", f"r{n}", "real", "film") for n in range(20)]
    splits = assign_splits(_corpus(videos), 0.15, 0.25, 0)
    counts = Counter((video.method, splits[video.group]) for video in videos)
    for method, size in (("a", 40), ("b", 40), ("film", 20)):
        assert counts[method, "val"] == pytest.approx(0.15 * size, abs=1)
        assert counts[method, "test"] == pytest.approx(0.25 * size, abs=1)


def test_small_strata_are_cut_together() -> None:
    videos = [_video(method, method, "fake", method) for method in "abcdefghij"]
    assert Counter(assign_splits(_corpus(videos), 0.2, 0.2, 0).values()) == {"train": 6, "val": 2, "test": 2}


def test_new_groups_move_few_others() -> None:
    before = assign_splits(_corpus(_video(str(n), str(n)) for n in range(200)), 0.15, 0.15, 0)
    after = assign_splits(_corpus(_video(str(n), str(n)) for n in range(210)), 0.15, 0.15, 0)
    assert sum(before[group] != after[group] for group in before) <= 10


def test_kept_splits() -> None:
    videos = [_video(str(n), str(n)) for n in range(20)]
    kept = {str(n): "val" for n in range(10)}
    splits = assign_splits(_corpus(videos), 0.15, 0.15, 0, kept | {"gone": "test"})
    assert splits | kept == splits
    assert "gone" not in splits


def test_seed() -> None:
    videos = [_video(str(n), str(n)) for n in range(40)]
    assert assign_splits(_corpus(videos), 0.2, 0.2, 0) != assign_splits(_corpus(videos), 0.2, 0.2, 1)


def test_given_splits_come_first() -> None:
    videos = [_video("a", "g", split="test"), _video("b", "g"), _video("c", "h", split="train")]
    assert assign_splits(_corpus(videos), 0.15, 0.15, 0) == {"g": "test", "h": "train"}
    with pytest.raises(DataError, match="group g is in two splits, test and val"):
        assign_splits(_corpus([*videos, _video("d", "g", split="val")]), 0.15, 0.15, 0)


def test_fakes_of_two_splits_are_left_out() -> None:
    videos = [_video(str(n), f"actor:{n}") for n in range(20)]
    fakes = [_video(f"{a}_{b}", f"actor:{a}", "fake", "dfd", partner=f"actor:{b}") for a in range(20) for b in (3, 99)]
    corpus = _corpus(videos + fakes)
    splits = assign_splits(corpus, 0.3, 0.3, 0)
    apart = dict(left_out(corpus, splits))
    assert set(apart.values()) == {"joins people of two splits"}
    kept = [fake for fake in fakes if fake not in apart]
    assert kept
    assert all(splits[fake.group] == splits[fake.partner] for fake in kept)


def test_small_circles_lose_no_fake() -> None:
    videos = [_video(str(n), f"actor:{n}") for n in range(40)]
    fakes = [_video(f"{n}_{n ^ 1}", f"actor:{n}", "fake", "dfd", partner=f"actor:{n ^ 1}") for n in range(40)]
    corpus = _corpus(videos + fakes)
    splits = assign_splits(corpus, 0.2, 0.2, 0)
    assert not list(left_out(corpus, splits))
    assert Counter(splits.values()) == {"train": 24, "val": 8, "test": 8}


def test_divided_circle_stays_divided() -> None:
    videos = [_video("a", "a"), _video("b", "b"), _video("a_b", "a", "fake", "dfd", partner="b")]
    splits = assign_splits(_corpus(videos), 0.2, 0.2, 0, {"a": "train", "b": "test"})
    assert splits == {"a": "train", "b": "test"}


def test_official_test_videos_stay() -> None:
    videos = [
        _video("listed", "id0", split="test"),
        _video("unlisted", "id0"),
        _video("id1_id0", "id1", "fake", "swap", partner="id0", split="test"),
        _video("id1", "id1"),
        _video("id2_id1", "id2", "fake", "swap", partner="id1"),
        _video("id2", "id2"),
    ]
    corpus = _corpus(videos, rest=("train", "val"), official=True)
    splits = assign_splits(corpus, 0.15, 0.15, 0)
    assert (splits["id0"], splits["id1"]) == ("test", "test")
    assert splits["id2"] in ("train", "val")
    unlisted = "shows people or footage of the official test videos, but is none of them"
    assert {video.video: reason for video, reason in left_out(corpus, splits)} == {
        "unlisted": unlisted,
        "id1": unlisted,
        "id2_id1": "joins people of two splits",
    }


def test_official_lists_that_divide_footage() -> None:
    corpus = _corpus([_video("a", "g", split="test"), _video("b", "g", split="train")], official=True)
    splits = assign_splits(corpus, 0.15, 0.15, 0)
    ((lost, reason),) = left_out(corpus, splits)
    assert (splits["g"], lost.video, reason) == (
        "test",
        "b",
        "is listed for train, but shows people or footage of test",
    )


def test_kept_split_that_is_closed() -> None:
    corpus = _corpus([_video("a", "g"), _video("t", "h", split="test")], rest=("train", "val"), official=True)
    assert assign_splits(corpus, 0.15, 0.15, 0, {"g": "test"})["g"] in ("train", "val")
