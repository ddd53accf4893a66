"""How far chance may have moved a figure: the bootstrap over groups.

Videos of one person, or of one piece of footage, go wrong together. So whole groups are drawn with replacement, and a
drawn group counts with all that belongs to it (the cluster bootstrap; Davison and Hinkley, "Bootstrap methods and their
application", 1997, section 3.8). Drawing a group n times is the same as giving its rows the weight n, so a figure is
computed for many draws at once from weights of the shape (draws, N).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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
