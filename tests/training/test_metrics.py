"""Metrics agree with scikit-learn, and say nothing where there is nothing to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from torchfakes_cli.training.metrics import auc_interval, roc_auc


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=60))
def test_auc_is_scikit_learns_ties_included(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = (list(values) for values in zip(*pairs, strict=True))
    found = roc_auc(labels, scores)
    if len(set(labels)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(labels, scores))


def test_the_interval_holds_the_auc_and_narrows_with_more_people() -> None:
    rng = np.random.default_rng(0)

    def interval(people: int) -> tuple[float, float]:
        labels = np.tile([0, 1], people)
        scores = labels + rng.normal(0, 1, labels.size)
        low, high = auc_interval(labels, scores, np.repeat(np.arange(people), 2), rounds=300) or (0, 0)
        auc = roc_auc(labels, scores)
        assert auc is not None
        assert low < auc < high
        return low, high

    few, many = interval(10), interval(200)
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_whole_groups_are_drawn() -> None:
    # One person's hundred copies are one piece of evidence, not a hundred.
    labels, scores = np.r_[np.zeros(100), 1, 0], np.r_[np.full(100, 2.0), 1, 0]
    groups = np.r_[np.zeros(100), 1, 2]
    low, high = auc_interval(labels, scores, groups, rounds=400) or (0.5, 0.5)
    assert (low, high) == (0.0, 1.0)


def test_nothing_has_no_interval() -> None:
    assert auc_interval([], [], []) is None
    assert auc_interval([1, 1], [0.1, 0.2], ["a", "b"]) is None
