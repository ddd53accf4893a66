"""Calibration: turn logits into probabilities, and fit slope, intercept and thresholds.

p = 1 / (1 + exp(−(slope · logit + intercept))), fitted on video scores of people that the network wasn't trained on.
Platt, "Probabilistic outputs for support vector machines" (1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def probability(logit: float, slope: float = 1.0, intercept: float = 0.0) -> float:
    """Return the calibrated probability of "fake" for a logit; NaN stays NaN."""
    z = slope * logit + intercept
    # Both branches use a negative exponent, which can't overflow.
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def fit_platt(
    logits: Sequence[float] | NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]
) -> tuple[float, float]:
    """Fit slope and intercept by maximum likelihood (Platt scaling).

    Real and fake videos have equal total weight, so that the probability assumes an even prior. As Platt proposed, the
    targets lie inside 0 and 1 by an amount that depends on the number of examples, so that few examples don't give
    extreme probabilities.

    Args:
        logits: one logit per video.
        labels: one label per video, 0 real or 1 fake.

    Returns:
        (slope, intercept); the slope is never negative. (1, 0) if one class is missing.
    """
    x = np.asarray(logits, np.float64)
    # Centred scores of unit spread, so that one step fits both numbers.
    centre, spread = (float(x.mean()), float(x.std()) or 1.0) if x.size else (0.0, 1.0)
    theta = _maximum_likelihood(np.stack([(x - centre) / spread, np.ones_like(x)], 1), labels)
    if theta is None:
        return 1.0, 0.0
    if theta[0] < 0:
        # Scores with the wrong sign have no information to calibrate.
        return 0.0, 0.0
    slope = float(theta[0]) / spread
    return slope, float(theta[1]) - slope * centre


def fit_temperature(
    logits: Sequence[float] | NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]
) -> tuple[float, float]:
    """Fit the slope alone (temperature scaling); a logit of 0 keeps the probability 0.5.

    Guo et al., "On calibration of modern neural networks" (2017), with the weights and targets of ``fit_platt``. The
    slope is the reciprocal of the temperature.

    Args:
        logits: one logit per video.
        labels: one label per video, 0 real or 1 fake.

    Returns:
        (slope, 0); the slope is never negative. (1, 0) if one class is missing.
    """
    x = np.asarray(logits, np.float64)
    spread = (float(np.sqrt(np.mean(x**2))) or 1.0) if x.size else 1.0
    theta = _maximum_likelihood((x / spread)[:, None], labels)
    return (1.0, 0.0) if theta is None else (max(0.0, float(theta[0]) / spread), 0.0)


def _maximum_likelihood(
    design: NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Fit a logistic regression with Platt's targets and balanced classes; return None if a class is missing.

    Args:
        design: matrix with one row per example and one column per coefficient, each of about unit spread.
        labels: 0 real, 1 fake.
    """
    y = np.asarray(labels, np.float64)
    fakes, reals = float(y.sum()), float((1 - y).sum())
    if not fakes or not reals:
        return None
    target = np.where(y == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    weight = np.where(y == 1, 0.5 / fakes, 0.5 / reals)

    def loss(theta: NDArray[np.float64]) -> float:
        z = design @ theta
        return float((weight * (np.logaddexp(0, z) - target * z)).sum())

    # Newton's method with step halving, so that it can't diverge.
    theta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-(design @ theta)))
        gradient = design.T @ (weight * (p - target))
        # The small ridge term keeps the matrix invertible if all logits are equal.
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(design.shape[1])
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() > 1e-9 and loss(theta - step) > loss(theta):
            step /= 2
        theta -= step
        if np.abs(step).max() < 1e-9:
            break
    return theta


def real_fake_thresholds(
    probabilities: Sequence[float] | NDArray[np.float64],
    labels: Sequence[int] | NDArray[np.int64],
    false_alarms: float = 0.05,
    missed_fakes: float = 0.25,
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
