"""Metrics agree with scikit-learn and with cases worked out by hand, and say nothing where there is nothing to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from torchfakes_cli.training.evaluate.metrics import (
    auc_interval,
    average_precision,
    balanced_accuracy,
    brier_score,
    calibration_error,
    equal_error_rate,
    log_loss,
    reliability,
    roc_auc,
)

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=60)
BOTH = PAIRS.filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def split(pairs: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = (np.array(values) for values in zip(*pairs, strict=True))
    return labels, scores.astype(float)


@settings(max_examples=40)
@given(PAIRS)
def test_auc_is_scikit_learns_ties_included(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = split(pairs)
    found = roc_auc(labels, scores)
    if len(set(labels)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(sk.roc_auc_score(labels, scores))


@settings(max_examples=40)
@given(BOTH)
def test_ranks_alone_decide_the_auc(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = split(pairs)
    for metric in (roc_auc, equal_error_rate, average_precision):
        assert metric(labels, np.exp(scores / 3)) == pytest.approx(metric(labels, scores))
    assert roc_auc(labels, -scores) == pytest.approx(1 - (roc_auc(labels, scores) or 0))


@settings(max_examples=40)
@given(BOTH)
def test_equal_errors_are_equal(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = split(pairs)
    rate = equal_error_rate(labels, scores)
    assert rate is not None
    assert 0 <= rate <= 1
    # No threshold has both kinds of errors below it, and none has both above it.
    false_alarms, hits, _ = sk.roc_curve(labels, scores)
    assert np.maximum(false_alarms, 1 - hits).min() >= rate - 1e-9
    assert np.minimum(false_alarms, 1 - hits).max() <= rate + 1e-9
    assert equal_error_rate(~labels, -scores) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("scores", "rate"),
    [
        ([0.1, 0.2, 0.8, 0.9], 0.0),
        ([0.8, 0.9, 0.1, 0.2], 1.0),
        ([0.1, 0.8, 0.2, 0.9], 0.5),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
    ],
)
def test_equal_error_rates_by_hand(scores: list[float], rate: float) -> None:
    assert equal_error_rate([0, 0, 1, 1], scores) == pytest.approx(rate)


def test_few_fakes_weigh_as_much_as_many_reals() -> None:
    labels, p = [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.6]
    weights = [1 / 6, 1 / 6, 1 / 6, 1 / 2]
    assert log_loss(labels, p) == pytest.approx(sk.log_loss(labels, p, sample_weight=weights))
    assert brier_score(labels, p) == pytest.approx((0.01 + 0.04 + 0.09) / 6 + 0.16 / 2)
    assert balanced_accuracy(labels, [0, 0, 1, 1]) == pytest.approx((2 / 3 + 1) / 2)


def test_calibration_error_by_hand() -> None:
    # Two bins: 0.2 and 0.4 hold one fake of two, 0.9 and 0.9 two of two.
    labels, p = [0, 1, 1, 1], [0.2, 0.4, 0.9, 0.9]
    lower = 1 / 2 * 0.2 + 1 / 6 * (0.4 - 1)
    upper = 2 / 6 * (0.9 - 1)
    assert calibration_error(labels, p, 2) == pytest.approx(abs(lower) + abs(upper))


def test_probabilities_that_are_right_have_no_error() -> None:
    labels = [0] * 9 + [1] + [0] + [1] * 9
    p = [0.1] * 10 + [0.9] * 10
    assert calibration_error(labels, p, 10) == pytest.approx(0)
    assert calibration_error(labels, [0.5] * 20, 10) == pytest.approx(0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=40), st.integers(2, 20))
def test_every_probability_has_one_bin(pairs: list[tuple[bool, float]], bins: int) -> None:
    labels, p = (list(values) for values in zip(*pairs, strict=True))
    found = reliability(labels, p, bins)
    if len(set(labels)) < 2:
        assert found == ()
        assert calibration_error(labels, p, bins) is None
        return
    assert sum(part.count for part in found) == len(p)
    for part in found:
        if part.count:
            assert part.low - 1e-9 <= (part.mean_p or 0) <= part.high + 1e-9
        else:
            assert part.mean_p is part.share_fake is None


@pytest.mark.parametrize("metric", [roc_auc, equal_error_rate, average_precision, log_loss, brier_score])
@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_one_class_has_no_figure(metric, labels: list[int]) -> None:
    assert metric(labels, [0.5] * len(labels)) is None


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
