"""Figures agree with scikit-learn and with cases worked out by hand; where they are undefined, a reason is given."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tests.training.scored_rows import crops, videos
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.evaluate.findings import Slice
from torchfakes_cli.training.evaluate.metrics import (
    ESTIMATED,
    auc_estimate,
    estimates,
    figures,
    measure_damage,
    point_figures,
    rank_figures,
    reliability,
    slice_videos,
    weighted_figures,
)
from torchfakes_cli.training.evaluate.perturb import Kind, Perturbation

QUICK = EvaluateConfig(rounds=100)
#: Label, logit or None, and number of copies, which is also the group.
Row = tuple[bool, int | None, int]
ROWS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.none(), st.integers(-6, 6)), st.integers(0, 3)), min_size=1, max_size=40
)


def judged(rows: list[Row], real_below: float = 0.3, fake_above: float = 0.7) -> pd.DataFrame:
    table = []
    for fake, logit, group in rows:
        p = math.nan if logit is None else 1 / (1 + math.exp(-logit / 2))
        verdict = "fake" if p >= fake_above else "real" if p < real_below else "inconclusive"
        table.append(("fake" if fake else "real", math.nan if logit is None else float(logit), p, verdict, f"g{group}"))
    return pd.DataFrame(table, columns=["label", "logit", "p_fake", "verdict", "group"])


def of_probabilities(labels: list[int], p: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"label": ["fake" if label else "real" for label in labels], "logit": p, "p_fake": p})
    return table.assign(verdict="inconclusive", group="g")


@settings(max_examples=60)
@given(ROWS)
def test_figures_are_scikit_learns(rows: list[Row]) -> None:
    scored = [(fake, logit) for fake, logit, _ in rows if logit is not None]
    found = point_figures(judged(rows), 10)
    if len({fake for fake, _ in scored}) < 2:
        undefined = ("auc", "eer", "average_precision", "balanced_accuracy", "log_loss", "brier", "ece")
        assert all(found[name] is None for name in undefined)
        assert reliability(judged([row for row in rows if row[1] is not None]), 10) == ()
        return
    fake, logits = (np.array(column) for column in zip(*scored, strict=True))
    p = 1 / (1 + np.exp(-logits / 2))
    even = np.where(fake, 0.5 / fake.sum(), 0.5 / (~fake).sum())
    assert found["auc"] == pytest.approx(sk.roc_auc_score(fake, logits))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(fake, logits))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(fake, p >= 0.5))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(fake, p >= 0.5))
    assert found["log_loss"] == pytest.approx(sk.log_loss(fake, p, sample_weight=even))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(fake, p, sample_weight=even))
    # No threshold has both kinds of errors below the equal error rate, and none has both above it.
    alarms, hits, _ = sk.roc_curve(fake, logits)
    rate = found["eer"]
    assert rate is not None
    assert np.minimum(alarms, 1 - hits).max() - 1e-9 <= rate <= np.maximum(alarms, 1 - hits).min() + 1e-9


@settings(max_examples=40)
@given(ROWS)
def test_a_weight_is_a_number_of_copies(rows: list[Row]) -> None:
    copies = [row for row in rows for _ in range(row[2])]
    if not copies:
        return
    weights = np.array([[float(weight) for *_, weight in rows]])
    (weighted,) = weighted_figures(judged(rows), weights, bins=5)
    for name, other in zip(ESTIMATED, weighted, strict=True):
        value = point_figures(judged(copies), 5)[name]
        assert (value is None) == math.isnan(other), name
        assert value is None or other == pytest.approx(value), name


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-4, 4), st.floats(0.1, 5)), min_size=2, max_size=40).filter(
        lambda rows: len({fake for fake, *_ in rows}) == 2
    )
)
def test_weighted_curves_are_scikit_learns(rows: list[tuple[bool, int, float]]) -> None:
    fake, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    ((auc, _, precision),) = rank_figures(fake, scores.astype(float), weights[None].astype(float))
    assert auc == pytest.approx(sk.roc_auc_score(fake, scores, sample_weight=weights))
    assert precision == pytest.approx(sk.average_precision_score(fake, scores, sample_weight=weights))


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
    assert point_figures(of_probabilities([0, 0, 1, 1], scores), 10)["eer"] == pytest.approx(rate)


def test_calibration_error_by_hand() -> None:
    # Two bins: 0.2 and 0.4 hold one fake of two, 0.9 and 0.9 two of two.
    table = of_probabilities([0, 1, 1, 1], [0.2, 0.4, 0.9, 0.9])
    lower = 1 / 2 * 0.2 + 1 / 6 * (0.4 - 1)
    upper = 2 / 6 * (0.9 - 1)
    assert point_figures(table, 2)["ece"] == pytest.approx(abs(lower) + abs(upper))
    first, second = reliability(table, 2)
    assert (first.count, first.share_fake) == (2, pytest.approx(0.25))
    assert (second.count, second.mean_p, second.share_fake) == (2, pytest.approx(0.9), pytest.approx(1))


def test_probabilities_that_are_right_have_no_error() -> None:
    labels = [0] * 9 + [1] + [0] + [1] * 9
    assert point_figures(of_probabilities(labels, [0.1] * 10 + [0.9] * 10), 10)["ece"] == pytest.approx(0)
    assert point_figures(of_probabilities(labels, [0.5] * 20), 10)["ece"] == pytest.approx(0)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(2, 20))
def test_every_probability_has_one_bin(p: list[float], bins: int) -> None:
    found = reliability(of_probabilities([index % 2 for index in range(len(p))], p), bins)
    assert sum(part.count for part in found) == len(p)
    for part in found:
        if part.count:
            assert part.low - 1e-9 <= (part.mean_p or 0) <= part.high + 1e-9
        else:
            assert part.mean_p is part.share_fake is None


def groups_of(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"label": np.where(labels, "fake", "real"), "logit": scores, "group": groups.astype(str)})


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(60):
        labels = np.tile([False, True], 40)
        table = groups_of(labels, labels + rng.normal(0, 1, labels.size), np.repeat(np.arange(40), 2))
        found = auc_estimate(table, EvaluateConfig(rounds=200, seed=seed))
        held += (found.low or 0) <= 0.7602 <= (found.high or 0)  # of two normal distributions one apart
    assert held >= 51


def test_whole_groups_are_drawn() -> None:
    # One person's hundred copies are one piece of evidence, not a hundred: what counts is who is drawn.
    labels = np.r_[np.zeros(10), np.ones(10)]
    once = groups_of(labels, np.tile(np.arange(10.0), 2), np.arange(20))
    copies = pd.concat([once, *[once.iloc[[9]]] * 99])
    found = auc_estimate(copies, EvaluateConfig(rounds=400))
    assert found.low is not None
    assert (found.high or 0) - found.low > 0.3


def test_an_interval_needs_ten_groups_of_each_label() -> None:
    labels = np.r_[np.zeros(9), np.ones(20)]
    assert auc_estimate(groups_of(labels, labels, np.arange(29)), QUICK).low is None
    (found,) = estimates(groups_of(labels, labels, np.arange(29)), lambda weights: weights[:, :1], QUICK)
    assert (found.value, found.low, found.high) == (1, None, None)


def test_verdicts_and_coverage_add_up() -> None:
    # Fakes: two called fake, one open, one without a score; reals: one called real, one called fake.
    rows: list[Row] = [(True, 6, 0), (True, 5, 1), (True, 0, 2), (True, None, 3), (False, -6, 4), (False, 6, 5)]
    found = figures(judged(rows), QUICK)
    assert found.verdicts == {
        "real": {"real": 1, "fake": 1, "inconclusive": 0},
        "fake": {"real": 0, "fake": 2, "inconclusive": 2},
    }
    assert (found.real, found.fake, found.unscored, found.groups) == (2, 3, 1, 6)
    assert found.coverage.value == pytest.approx(4 / 6)
    assert found.selective_accuracy.value == pytest.approx(3 / 4)
    assert found.missing == ""


@pytest.mark.parametrize(("rows", "words"), [([(True, 1, 0)], "real"), ([(False, 1, 0)], "fake"), ([], "nothing")])
def test_one_class_says_what_is_missing(rows: list[Row], words: str) -> None:
    found = figures(judged(rows), QUICK)
    assert words in found.missing
    assert found.auc.value is None
    assert found.reliability == ()


def slices(*rows: list[dict[str, object]]) -> dict[tuple[str, str], Slice]:
    found = slice_videos(videos(*rows), QUICK)
    return {(part.by, part.name): part for part in found}


def test_a_method_meets_the_originals_of_its_fakes() -> None:
    found = slices(
        crops("r1", [0.0] * 3, label="real", method="film"),
        crops("r2", [9.0] * 3, label="real", method="film"),
        crops("f1", [1.0] * 3, method="A", source="r1"),
        crops("f2", [1.0] * 3, method="B", source="r1"),
        crops("f3", [1.0] * 3, method="B", source="gone"),
        crops("f4", [1.0] * 3, method="C"),
    )
    a, b, c = (found["method", name] for name in "ABC")
    assert (a.real, a.fake, a.against, a.auc.value) == (1, 1, "their originals", 1.0)
    assert (b.real, b.fake, b.against, b.auc.value) == (1, 2, "the originals of 1 of them", 1.0)
    assert (c.real, c.fake, c.against, c.auc.value) == (2, 1, "all reals", 0.5)
    assert c.auc.low is None
    assert c.verdicts["fake"] == {"real": 0, "fake": 1, "inconclusive": 0}


def test_compressions_are_told_apart_where_there_are_several() -> None:
    def set_of(compression: str, fake: float) -> list[list[dict[str, object]]]:
        return [
            crops(f"o/{compression}/v/1", [0.0] * 3, label="real", compression=compression),
            crops(f"m/{compression}/v/1", [fake] * 3, compression=compression),
        ]

    found = slices(*set_of("c23", 1.0), *set_of("c40", -1.0))
    assert found["compression", "c23"].auc.value == 1.0
    assert found["compression", "c40"].auc.value == 0.0
    assert not any(by == "compression" for by, _ in slices(*set_of("c23", 1.0)))


def test_every_video_has_one_face_size_and_one_sharpness() -> None:
    rows = [crops(f"v{size}", [1.0] * 3, size=size, sharpness=3 * size) for size in (40, 64, 95.9, 300)]
    found = slices(*rows)
    sizes = {name: part.fake for (by, name), part in found.items() if by == "face size"}
    assert sizes == {"below 64": 1, "64 to 96": 2, "256 and more": 1}
    assert sum(part.fake for (by, _), part in found.items() if by == "sharpness") == 4
    assert "nothing real" in found["face size", "below 64"].missing


BLUR = Perturbation(Kind.BLUR, 5)


def damaged_set(*logits: float) -> pd.DataFrame:
    """Two reals and the rest fakes."""
    labels = ["real", "real", *["fake"] * (len(logits) - 2)]
    pairs = zip(labels, logits, strict=True)
    return videos(*(crops(f"v{number}", [logit] * 3, label=label) for number, (label, logit) in enumerate(pairs)))


def test_right_verdicts_flip_or_are_withdrawn_and_wrong_ones_do_neither() -> None:
    before = damaged_set(-3, -3, 3, 3, -3)  # the last fake was missed from the start
    damage = measure_damage(BLUR, before, damaged_set(3, -3, 0, 3, 3), QUICK)
    assert (damage.kind, damage.level, damage.value) == ("blur", 5, 21)
    assert (damage.flipped, damage.withdrawn) == (0.25, 0.25)
    assert damage.correct == 3
    assert damage.verdicts["real"] == {"real": 1, "fake": 1, "inconclusive": 0}
    assert damage.auc.value == pytest.approx((1 + 0.5 + 0.5 + 1 + 1 + 0) / 6)
    damage = measure_damage(None, before, before, QUICK)
    assert (damage.kind, damage.level, damage.value, damage.flipped, damage.withdrawn) == ("", 0, None, 0, 0)


def test_where_nothing_was_right_nothing_can_flip() -> None:
    before = damaged_set(0, 0, 0)
    damage = measure_damage(BLUR, before, before, QUICK)
    assert damage.flipped is damage.withdrawn is None
