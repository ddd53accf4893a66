"""Figures of merit as pure functions: labels and scores in, numbers out. scikit-learn says what each figure is.

A figure is None where it is undefined, for example where a class is missing. Labels are 0 for real and 1 for fake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability plot.

    Attributes:
        low: lowest probability in the bin.
        high: the next bin's lowest.
        count: how many fall into it.
        mean_p: their mean probability; None for an empty bin.
        share_fake: how many of them are fake, real and fake weighing the same in sum; None for an empty bin.
    """

    low: float
    high: float
    count: int
    mean_p: float | None
    share_fake: float | None


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: how often a fake scores above a real one, ties counting half.

    Args:
        labels: shape (N,).
        scores: any real numbers, higher for fake, shape (N,).

    Returns:
        0 to 1; None where one class is missing.

    Example:
        >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    y = np.asarray(labels, bool)
    return float(sk.roc_auc_score(y, np.asarray(scores, np.float64))) if both_classes(y) else None


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the precision-recall curve, as a sum of steps; None where one class is missing."""
    y = np.asarray(labels, bool)
    return float(sk.average_precision_score(y, np.asarray(scores, np.float64))) if both_classes(y) else None


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """The share of wrong answers at the threshold where as many reals as fakes get one.

    Between two thresholds the ROC curve is taken as straight.

    Example:
        >>> equal_error_rate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.5
    """
    y = np.asarray(labels, bool)
    if not both_classes(y):
        return None
    false_alarms, hits, _ = sk.roc_curve(y, np.asarray(scores, np.float64), drop_intermediate=False)
    return crossing(false_alarms, hits)


def crossing(false_alarms: Floats, hits: Floats) -> float:
    """Where a ROC curve meets the line of equal error rates."""
    return float(np.interp(0.0, false_alarms + hits - 1, false_alarms))


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats] | None:
    """False-alarm rates and hit rates along the ROC curve; None where one class is missing."""
    y = np.asarray(labels, bool)
    if not both_classes(y):
        return None
    false_alarms, hits, _ = sk.roc_curve(y, np.asarray(scores, np.float64))
    return false_alarms, hits


def accuracy(labels: ArrayLike, answers: ArrayLike) -> float | None:
    """The share of right answers (0 or 1); None for none."""
    y = np.asarray(labels, bool)
    return float(sk.accuracy_score(y, np.asarray(answers, bool))) if len(y) else None


def balanced_accuracy(labels: ArrayLike, answers: ArrayLike) -> float | None:
    """The mean of the shares of right answers on real and on fake; None where one class is missing."""
    y = np.asarray(labels, bool)
    return float(sk.balanced_accuracy_score(y, np.asarray(answers, bool))) if both_classes(y) else None


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Mean negative log-likelihood, real and fake weighing the same in sum, as the calibration has it.

    A detector that knows nothing and says 0.5 has 0.693.
    """
    y = np.asarray(labels, bool)
    if not both_classes(y):
        return None
    return float(sk.log_loss(y, np.asarray(probabilities, np.float64), sample_weight=even_prior(y)))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Mean squared error of the probabilities, real and fake weighing the same in sum; 0.25 for always 0.5."""
    y = np.asarray(labels, bool)
    if not both_classes(y):
        return None
    return float(sk.brier_score_loss(y, np.asarray(probabilities, np.float64), sample_weight=even_prior(y)))


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> float | None:
    """Expected calibration error over equally wide bins, real and fake weighing the same in sum.

    The mean, weighted by what lies in each bin, of how far its mean probability is from its share of fakes (Naeini et
    al., "Obtaining well calibrated probabilities using Bayesian binning", 2015). With few examples it is above 0 even
    for perfect probabilities.
    """
    y = np.asarray(labels, bool)
    if not both_classes(y):
        return None
    p = np.asarray(probabilities, np.float64)
    gaps = np.bincount(bin_places(p, bins), weights=even_prior(y) * (p - y), minlength=bins)
    return float(np.abs(gaps).sum())


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> tuple[Bin, ...]:
    """What lies in each of the equally wide bins; empty where one class is missing."""
    y = np.asarray(labels, bool)
    if not both_classes(y):
        return ()
    p = np.asarray(probabilities, np.float64)
    places, weights = bin_places(p, bins), even_prior(y)
    found = []
    for place in range(bins):
        inside = places == place
        weight = weights[inside].sum()
        found.append(
            Bin(
                low=place / bins,
                high=(place + 1) / bins,
                count=int(inside.sum()),
                mean_p=float((weights * p)[inside].sum() / weight) if weight else None,
                share_fake=float((weights * y)[inside].sum() / weight) if weight else None,
            )
        )
    return tuple(found)


def bin_places(probabilities: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each probability; 1 falls into the last one."""
    return np.asarray(np.minimum(probabilities * bins, bins - 1), np.intp)


def even_prior(fake: NDArray[np.bool_]) -> Floats:
    """Weights that sum up to a half for the reals and to a half for the fakes; both must be there."""
    return np.asarray(np.where(fake, 0.5 / max(1, fake.sum()), 0.5 / max(1, (~fake).sum())))


def both_classes(fake: NDArray[np.bool_]) -> bool:
    """Whether there are reals and fakes."""
    return bool(fake.any() and not fake.all())


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, rounds: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the AUC, drawing whole groups, since videos of one person aren't independent.

    Args:
        labels: shape (N,).
        scores: shape (N,).
        groups: what is drawn together, shape (N,).
        rounds: of the bootstrap.
        seed: of the draws.

    Returns:
        (low, high); None where one class is missing.
    """
    y, s = np.asarray(labels, bool), np.asarray(scores, np.float64)

    def auc(weights: Floats) -> Floats:
        return weighted_roc(y, s, weights).auc()[:, None]

    return bootstrap_interval(np.asarray(groups), auc, rounds, seed)[0] if len(y) else None


#: A bootstrap over fewer groups of a label gives no interval: at the extreme, one that is always drawn moves nothing.
MIN_GROUPS = 10
#: Draws × rows computed at once, which bounds the memory.
_CELLS = 1 << 21
_TINY = 1e-300


def bootstrap_interval(
    groups: NDArray[np.generic], statistic: Callable[[Floats], Floats], rounds: int, seed: int
) -> list[tuple[float, float] | None]:
    """95 % percentile intervals of several figures.

    Args:
        groups: what is drawn together, shape (N,), N above 0.
        statistic: from weights of the shape (draws, N) to figures of the shape (draws, K); NaN where a draw has none,
            as when it lacks a class. Such draws are left out.
        rounds: how many draws.
        seed: of the draws.

    Returns:
        For each of the K figures (low, high), or None where no draw had it.
    """
    names, member = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = []
    step = max(1, _CELLS // len(member))
    for start in range(0, rounds, step):
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(step, rounds - start))
        drawn.append(statistic(counts[:, member].astype(np.float64)))
    figures = np.concatenate(drawn)
    found: list[tuple[float, float] | None] = []
    for column in figures.T:
        known = column[np.isfinite(column)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        found.append((float(low), float(high)) if len(known) else None)
    return found


@dataclass(frozen=True, slots=True)
class WeightedRoc:
    """ROC curves of several weightings of the same scores; rows of NaN where a class has no weight.

    Attributes:
        false_alarms: share of the reals at or above each threshold, from none to all, shape (draws, T).
        hits: the same of the fakes.
        precision: share of fakes among all at or above each threshold, shape (draws, T).
    """

    false_alarms: Floats
    hits: Floats
    precision: Floats

    def auc(self) -> Floats:
        """Areas under the curves, shape (draws,)."""
        return np.asarray((np.diff(self.false_alarms) * (self.hits[:, 1:] + self.hits[:, :-1]) / 2).sum(1))

    def average_precision(self) -> Floats:
        """Areas under the precision-recall curves as sums of steps, shape (draws,)."""
        return np.asarray((np.diff(self.hits) * self.precision[:, 1:]).sum(1))

    def equal_error_rate(self) -> Floats:
        """Where each curve meets the line of equal error rates, shape (draws,)."""
        crossings = zip(self.false_alarms + self.hits - 1, self.false_alarms, strict=True)
        return np.array([np.interp(0.0, balance, errors) for balance, errors in crossings])


def weighted_roc(fake: NDArray[np.bool_], scores: Floats, weights: Floats) -> WeightedRoc:
    """ROC curves as scikit-learn's ``roc_curve`` gives them with sample weights, for many weightings at once.

    Args:
        fake: shape (N,).
        scores: shape (N,).
        weights: shape (draws, N).
    """
    order = np.argsort(-scores, kind="stable")
    # Only the last of equal scores is a threshold.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    fakes = np.cumsum(weights[:, order] * fake[order], 1)[:, last]
    reals = np.cumsum(weights[:, order] * ~fake[order], 1)[:, last]
    none = np.zeros((len(weights), 1))
    false_alarms, hits = np.concatenate([none, reals], 1), np.concatenate([none, fakes], 1)
    # Where a class has no weight every figure is unknown; 0 / 0 only stands above the first threshold with any.
    known = np.where((reals[:, -1:] > 0) & (fakes[:, -1:] > 0), 1.0, np.nan)
    return WeightedRoc(
        false_alarms=known * false_alarms / np.maximum(reals[:, -1:], _TINY),
        hits=known * hits / np.maximum(fakes[:, -1:], _TINY),
        precision=known * hits / np.maximum(false_alarms + hits, _TINY),
    )
