"""Calibration: turn logits into probabilities, fit slope, intercept and thresholds, and read measured error rates.

p = 1 / (1 + exp(−(slope · logit + intercept))), fitted on video scores of people that the network wasn't trained on.
Platt, "Probabilistic outputs for support vector machines" (1999).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.records import ErrorRates

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header

Scores = Sequence[float] | NDArray[np.float64]
Labels = Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]

#: Key of ``Header.metrics`` for the record of the calibration and its cross-validated results.
CALIBRATION = "calibration"
#: Key of ``Header.metrics`` for the verdicts on people held out of the training, by label and verdict.
TEST_VERDICTS = "test_verdicts"
VERDICTS = ("real", "inconclusive", "fake")


def probability(logit: float, slope: float = 1.0, intercept: float = 0.0) -> float:
    """Return the calibrated probability of "fake" for a logit; NaN stays NaN."""
    z = slope * logit + intercept
    # Both branches use a negative exponent, which can't overflow.
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def fit_platt(logits: Scores, labels: Labels) -> tuple[float, float]:
    """Fit slope and intercept by maximum likelihood (Platt scaling).

    Args:
        logits: one logit per video.
        labels: one label per video, 0 real or 1 fake.

    Returns:
        (slope, intercept); the slope is never negative. (1, 0) if one class is missing.
    """
    slope, intercept = _fit(logits, labels, with_intercept=True)
    # Scores with the wrong sign have no information to calibrate.
    return (slope, intercept) if slope >= 0 else (0.0, 0.0)


def fit_temperature(logits: Scores, labels: Labels) -> tuple[float, float]:
    """Fit the slope alone (temperature scaling); a logit of 0 keeps the probability 0.5.

    Guo et al., "On calibration of modern neural networks" (2017). The slope is the reciprocal of the temperature.

    Args:
        logits: one logit per video.
        labels: one label per video, 0 real or 1 fake.

    Returns:
        (slope, 0); the slope is never negative. (1, 0) if one class is missing.
    """
    return max(0.0, _fit(logits, labels, with_intercept=False)[0]), 0.0


def _fit(logits: Scores, labels: Labels, *, with_intercept: bool) -> tuple[float, float]:
    """Fit a logistic regression in which real and fake have equal total weight: the probability assumes an even prior.

    As Platt proposed, the targets lie inside 0 and 1 by an amount that depends on the number of examples, so that few
    examples don't give extreme probabilities. scikit-learn takes such a target as two examples with weights.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and scans don't need it

    x, fake = np.asarray(logits, np.float64), np.asarray(labels, bool)
    fakes, reals = int(fake.sum()), int((~fake).sum())
    if not fakes or not reals:
        return 1.0, 0.0
    target = np.where(fake, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    weight = np.where(fake, 0.5 / fakes, 0.5 / reals)
    center = float(x.mean()) if with_intercept else 0.0
    spread = float(np.sqrt(np.mean((x - center) ** 2))) or 1.0
    # Practically no penalty: just enough for a solution if all logits are equal.
    model = LogisticRegression(C=1e9, fit_intercept=with_intercept, solver="newton-cholesky", tol=1e-9)
    model.fit(
        np.tile((x - center) / spread, 2)[:, None],
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate([weight * target, weight * (1 - target)]),
    )
    slope = float(model.coef_[0, 0]) / spread
    return slope, float(np.ravel(model.intercept_)[0]) - slope * center


def real_fake_thresholds(
    probabilities: Scores, labels: Labels, false_alarms: float = 0.05, missed_fakes: float = 0.25
) -> tuple[float, float]:
    """Compute the two thresholds between which a verdict is inconclusive.

    A false alarm does more harm than a missed fake, so that its bound is stricter. It is a bound for future videos: if
    k of n real videos are above a threshold, a further one is above it with the probability (k + 1) / (n + 1) (Vovk et
    al., "Algorithmic learning in a random world", 2005). Fewer than 19 real videos can't guarantee 5 %; the threshold
    is then the highest of their probabilities.

    Args:
        probabilities: one probability per video.
        labels: one label per video, 0 real or 1 fake.
        false_alarms: largest share of future real videos above ``fake_above``.
        missed_fakes: largest share of the given fakes below ``real_below``.

    Returns:
        (real_below, fake_above), with 0 ≤ real_below ≤ 0.5 ≤ fake_above ≤ 1.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels)
    reals, fakes = np.sort(p[y == 0]), np.sort(p[y == 1])
    fake_above = 0.5
    if len(reals):
        # Index from the top of the first real video that must not be called fake. The small amount corrects rounding
        # errors, such as that of 0.1 × 30.
        allowed = max(0, int(false_alarms * (len(reals) + 1) + 1e-9) - 1)
        fake_above = float(np.nextafter(reals[len(reals) - 1 - allowed], 1))
    real_below = 0.5
    if len(fakes):
        real_below = float(fakes[min(len(fakes) - 1, int(missed_fakes * len(fakes)))])
    return float(min(0.5, real_below)), float(min(1.0, max(0.5, fake_above)))


def error_rates(header: Header) -> ErrorRates | None:
    """Return the error rates in a header; None if they are missing or can't be read."""
    try:
        record = header.metrics.get(CALIBRATION)
        if record and record.get("cross_validated"):
            return _rates(record["cross_validated"]["verdicts"], str(record.get("footage", "")))
        return _rates(header.metrics[TEST_VERDICTS], "")
    except (AttributeError, KeyError, TypeError, ValueError):  # a checkpoint may hold anything
        return None


def _rates(counts: Mapping[str, Mapping[str, Any]], footage: str) -> ErrorRates:
    genuine, fakes = ({name: int(counts[label][name]) for name in VERDICTS} for label in ("real", "fake"))
    # The record counts the videos that the calibration was fitted on; verdicts also count those without a score.
    videos = sum(genuine.values()) + sum(fakes.values())
    return ErrorRates(genuine, fakes, re.sub(r"^\d+ ", f"{videos} ", footage))
