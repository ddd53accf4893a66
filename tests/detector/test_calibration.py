"""Probabilities mean what they say, and thresholds keep their promise on what they were chosen on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.detector.calibration import fit_platt, probability, real_fake_thresholds


@given(st.floats(-1e6, 1e6), st.floats(0, 50), st.floats(-50, 50))
def test_a_probability_stays_in_bounds(logit: float, slope: float, intercept: float) -> None:
    assert 0 <= probability(logit, slope, intercept) <= 1


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 5))
def test_a_higher_logit_never_means_a_lower_probability(a: float, b: float, slope: float) -> None:
    low, high = sorted((a, b))
    assert probability(low, slope) <= probability(high, slope)


def test_a_score_that_is_no_number_stays_none() -> None:
    assert math.isnan(probability(math.nan))


def test_fitting_finds_the_scale_that_scores_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 20000)
    labels = (rng.random(truth.size) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    slope, intercept = fit_platt(truth * 4 + 3, labels)
    assert slope == pytest.approx(0.25, rel=0.06)
    assert intercept == pytest.approx(-0.75, abs=0.08)


def test_few_examples_never_make_it_sure() -> None:
    slope, intercept = fit_platt([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    assert 0.05 < probability(-3, slope, intercept) < 0.5 < probability(3, slope, intercept) < 0.95


def test_scores_that_point_the_wrong_way_say_nothing() -> None:
    slope, intercept = fit_platt([3.0, 2.0, -2.0, -3.0], [0, 0, 1, 1])
    assert probability(9, slope, intercept) == 0.5


def test_one_class_is_left_uncalibrated() -> None:
    assert fit_platt([1.0, 2.0], [1, 1]) == (1.0, 0.0)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
def test_no_more_mistakes_than_allowed(reals: list[float], fakes: list[float], alarms: float, missed: float) -> None:
    labels = [0] * len(reals) + [1] * len(fakes)
    real_below, fake_above = real_fake_thresholds(reals + fakes, labels, alarms, missed)
    assert 0 <= real_below <= 0.5 <= fake_above <= 1
    # At exactly 1 nothing can lie above: a threshold can't exceed a probability.
    if fake_above < 1:
        assert sum(p >= fake_above for p in reals) <= alarms * len(reals)
    assert sum(p < real_below for p in fakes) <= missed * len(fakes)


@given(st.lists(st.floats(0.5, 0.99), min_size=20, max_size=60, unique=True))
def test_a_further_real_is_called_fake_no_more_often_than_allowed(reals: list[float]) -> None:
    """Each real in turn is the further one: it could as well have been any other of them."""
    alarms = 0
    for further in reals:
        others = [p for p in reals if p != further]
        _, fake_above = real_fake_thresholds(others, [0] * len(others), false_alarms=0.05)
        alarms += further >= fake_above
    assert alarms <= 0.05 * len(reals)
