"""From logits to probabilities that mean what they say.

p = 1 / (1 + exp(−(slope · logit + intercept))), fitted on the video scores of people the network never saw. Platt,
"Probabilistic outputs for support vector machines" (1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def probability(logit: float, slope: float = 1.0, intercept: float = 0.0) -> float:
    """Calibrated probability of "fake" for a logit; NaN stays NaN."""
    z = slope * logit + intercept
    # Either branch keeps the exponent negative, so that nothing overflows.
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def fit_platt(
    logits: Sequence[float] | NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]
) -> tuple[float, float]:
    """Fit slope and intercept by maximum likelihood.

    Real and fake weigh the same in sum, whatever their numbers, so that the probability answers for an even prior. As
    Platt proposed, targets are drawn in from 0 and 1 by the number of examples, so that few of them don't make it sure.

    Args:
        logits: one a video.
        labels: 0 real, 1 fake.

    Returns:
        (slope, intercept); the slope is never negative. (1, 0) where one class is missing.
    """
    x = np.asarray(logits, np.float64)
    # Centred scores of unit spread, so that one step fits both numbers.
    centre, spread = (float(x.mean()), float(x.std()) or 1.0) if x.size else (0.0, 1.0)
    theta = _maximum_likelihood(np.stack([(x - centre) / spread, np.ones_like(x)], 1), labels)
    if theta is None:
        return 1.0, 0.0
    if theta[0] < 0:
        # Scores that point the wrong way carry nothing to calibrate.
        return 0.0, 0.0
    slope = float(theta[0]) / spread
    return slope, float(theta[1]) - slope * centre


def fit_temperature(
    logits: Sequence[float] | NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]
) -> tuple[float, float]:
    """Fit the slope alone, which is one over the temperature: it says how sure to be and leaves 0.5 where it was.

    Guo et al., "On calibration of modern neural networks" (2017), with the weights and targets of ``fit_platt``.

    Args:
        logits: one a video.
        labels: 0 real, 1 fake.

    Returns:
        (slope, 0); the slope is never negative. (1, 0) where one class is missing.
    """
    x = np.asarray(logits, np.float64)
    spread = (float(np.sqrt(np.mean(x**2))) or 1.0) if x.size else 1.0
    theta = _maximum_likelihood((x / spread)[:, None], labels)
    return (1.0, 0.0) if theta is None else (max(0.0, float(theta[0]) / spread), 0.0)


def _maximum_likelihood(
    design: NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Coefficients of a logistic regression with Platt's targets and balanced classes; None where one is missing.

    Args:
        design: a row an example, a column a coefficient, each of about unit spread.
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

    # Newton's method; steps are halved until they help, so that it can't run away.
    theta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-(design @ theta)))
        gradient = design.T @ (weight * (p - target))
        # The small ridge keeps the step defined when all logits are alike.
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
    """The two thresholds between which a verdict is inconclusive.

    Calling a real video fake does the greater harm, so that bound is the stricter one; "real" is the weaker word. It is
    meant for further videos: with k of n reals above a threshold, a further one is above it with a chance of
    (k + 1) / (n + 1) (Vovk et al., "Algorithmic learning in a random world", 2005). Fewer than 19 reals can't promise
    5 %; the highest of them is the threshold then.

    Args:
        probabilities: one a video.
        labels: 0 real, 1 fake.
        false_alarms: at most this share of further reals may be called fake.
        missed_fakes: at most this share of the fakes may be called real.

    Returns:
        (real_below, fake_above), with 0 ≤ real_below ≤ 0.5 ≤ fake_above ≤ 1.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels)
    reals, fakes = np.sort(p[y == 0]), np.sort(p[y == 1])
    fake_above = 0.5
    if len(reals):
        # The first real that may not be called fake sits at this place from the top. The small amount mends 0.1 × 30.
        allowed = max(0, int(false_alarms * (len(reals) + 1) + 1e-9) - 1)
        fake_above = float(np.nextafter(reals[len(reals) - 1 - allowed], 1))
    real_below = 0.5
    if len(fakes):
        real_below = float(fakes[min(len(fakes) - 1, int(missed_fakes * len(fakes)))])
    return float(min(0.5, real_below)), float(min(1.0, max(0.5, fake_above)))
