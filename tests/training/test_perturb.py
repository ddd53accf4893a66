"""Damage keeps shapes and grows with its level."""

from __future__ import annotations

import numpy as np
import pytest

from tests.portraits import scene
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.evaluate.perturb import (
    LEVELS,
    MEANING,
    Kind,
    Perturbation,
    chosen_perturbations,
    perturb,
)

#: A person's crops differ in size, and odd sides are no exception.
CLIP = [scene((side, side), (side / 2, side / 2), side * 0.68) for side in (96, 101, 128)]


def damaged(kind: Kind, level: int, seed: int = 0) -> list[np.ndarray]:
    return perturb(CLIP, Perturbation(kind, level), np.random.default_rng(seed))


def error(clip: list[np.ndarray]) -> float:
    return float(np.mean([np.square(a.astype(float) - b).mean() for a, b in zip(clip, CLIP, strict=True)]))


@pytest.mark.parametrize("kind", Kind)
def test_every_level_does_more_harm_than_the_one_before(kind: Kind) -> None:
    before = [crop.copy() for crop in CLIP]
    clips = [damaged(kind, level) for level in range(1, 6)]
    for clip in clips:
        assert [crop.shape for crop in clip] == [crop.shape for crop in CLIP]
        assert {crop.dtype for crop in clip} == {np.dtype(np.uint8)}
    errors = [error(clip) for clip in clips]
    assert [0.0, *errors] == sorted({0.0, *errors})
    for crop, kept in zip(CLIP, before, strict=True):
        np.testing.assert_array_equal(crop, kept)  # what came in is not touched


@pytest.mark.parametrize("kind", [Kind.NOISE, Kind.BLOCKS])
def test_chance_repeats_itself(kind: Kind) -> None:
    assert error(damaged(kind, 3, seed=1)) == error(damaged(kind, 3, seed=1)) != error(damaged(kind, 3, seed=2))


def test_without_saturation_a_face_is_gray() -> None:
    spread = [np.ptp(crop.astype(int), axis=2).max() for crop in damaged(Kind.SATURATION, 5)]
    assert max(spread) <= 2


def test_every_kind_has_five_levels_and_says_what_they_mean() -> None:
    assert all(len(LEVELS[kind]) == 5 for kind in Kind)
    assert set(MEANING) == set(Kind)


def test_kinds_and_levels_are_chosen_once_and_in_order() -> None:
    assert chosen_perturbations((), (1, 2)) == ()
    assert len(chosen_perturbations(("all", "jpeg"), (1, 2, 3, 4, 5))) == 5 * len(Kind)
    chosen = chosen_perturbations(("jpeg", "h264"), (5, 1, 5))
    assert [(p.kind, p.level, p.value) for p in chosen] == [
        (Kind.H264, 1, 23), (Kind.H264, 5, 45), (Kind.JPEG, 1, 90), (Kind.JPEG, 5, 20),
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"'rain'.*jpeg"):
        chosen_perturbations(("rain",), (1,))
