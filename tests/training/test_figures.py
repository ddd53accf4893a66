"""The figures of a set, and the bootstrap that computes them from weights, are scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from torchfakes_cli.training.evaluate.figures import ESTIMATED, Judged, figures, point_figures, weighted_figures
from torchfakes_cli.training.evaluate.metrics import bootstrap_interval, weighted_roc

ROWS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.none(), st.integers(-6, 6)), st.integers(0, 3)), min_size=1, max_size=40
)


def judged(rows: list[tuple[bool, int | None, int]], real_below: float = 0.3, fake_above: float = 0.7) -> Judged:
    """Videos with a logit or none; a third number is the weight of the row, and its group."""
    table = []
    for fake, logit, group in rows:
        p = math.nan if logit is None else 1 / (1 + math.exp(-logit / 2))
        verdict = "fake" if p >= fake_above else "real" if p < real_below else "inconclusive"
        label = "fake" if fake else "real"
        table.append((label, math.nan if logit is None else float(logit), p, verdict, f"g{group}"))
    return Judged.of(pd.DataFrame(table, columns=["label", "logit", "p_fake", "verdict", "group"]))


@settings(max_examples=40)
@given(ROWS)
def test_weights_of_one_change_nothing(rows: list[tuple[bool, int | None, int]]) -> None:
    items = judged(rows)
    (weighted,) = weighted_figures(items, np.ones((1, len(rows))), bins=5)
    for name, value, other in zip(ESTIMATED, point_figures(items, 5), weighted, strict=True):
        assert (value is None) == (not np.isfinite(other)), name
        if value is not None:
            assert other == pytest.approx(value), name


@settings(max_examples=40)
@given(ROWS)
def test_a_weight_is_a_number_of_copies(rows: list[tuple[bool, int | None, int]]) -> None:
    weights = np.array([float(weight) for *_, weight in rows])
    copies = [row for row in rows for _ in range(row[2])]
    if not copies:
        return
    (weighted,) = weighted_figures(judged(rows), weights[None], bins=5)
    for name, value, other in zip(ESTIMATED, point_figures(judged(copies), 5), weighted, strict=True):
        assert (value is None) == (not np.isfinite(other)), name
        if value is not None:
            assert other == pytest.approx(value), name


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-4, 4), st.floats(0.1, 5)), min_size=2, max_size=40).filter(
        lambda rows: len({fake for fake, *_ in rows}) == 2
    )
)
def test_weighted_curves_are_scikit_learns(rows: list[tuple[bool, int, float]]) -> None:
    fake, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    roc = weighted_roc(fake, scores.astype(float), weights[None].astype(float))
    assert roc.auc()[0] == pytest.approx(sk.roc_auc_score(fake, scores, sample_weight=weights))
    expected = sk.average_precision_score(fake, scores, sample_weight=weights)
    assert roc.average_precision()[0] == pytest.approx(expected)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(60):
        labels = np.tile([False, True], 40)
        scores = labels + rng.normal(0, 1, labels.size)
        groups = np.repeat(np.arange(40), 2)
        ((low, high),) = bootstrap_interval(
            groups, lambda weights, labels=labels, scores=scores: weighted_roc(labels, scores, weights).auc()[:, None],
            rounds=200, seed=seed,
        )  # fmt: skip
        held += low <= 0.7602 <= high  # of two normal distributions one apart
    assert held >= 51


def test_verdicts_and_coverage_add_up() -> None:
    # Fakes: two called fake, one open, one without a score; reals: one called real, one called fake.
    rows = [(True, 6, 0), (True, 5, 1), (True, 0, 2), (True, None, 3), (False, -6, 4), (False, 6, 5)]
    found = figures(judged(rows), rounds=100, bins=10, seed=0)
    assert found.verdicts == {
        "real": {"real": 1, "fake": 1, "inconclusive": 0},
        "fake": {"real": 0, "fake": 2, "inconclusive": 2},
    }
    assert (found.real, found.fake, found.unscored, found.groups) == (2, 3, 1, 6)
    assert found.coverage.value == pytest.approx(4 / 6)
    assert found.selective_accuracy.value == pytest.approx(3 / 4)
    assert found.auc.low is None  # two groups have reals: nothing can be said of others
    assert found.missing == ""


@pytest.mark.parametrize(("rows", "words"), [([(True, 1, 0)], "real"), ([(False, 1, 0)], "fake"), ([], "nothing")])
def test_one_class_says_what_is_missing(rows: list[tuple[bool, int | None, int]], words: str) -> None:
    found = figures(judged(rows), rounds=100, bins=10, seed=0)
    assert words in found.missing
    assert found.auc.value is None
    assert found.reliability == ()
