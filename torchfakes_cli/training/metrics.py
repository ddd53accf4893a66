"""Figures of merit as pure functions: scores in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: how often a fake scores above a real one, ties counting half.

    Args:
        labels: 0 real, 1 fake, shape (N,).
        scores: any real numbers, higher for fake, shape (N,).

    Returns:
        0 to 1; None where one class is missing.

    Example:
        >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    y = np.asarray(labels, bool)
    s = np.asarray(scores, np.float64)
    fakes, reals = int(y.sum()), int((~y).sum())
    if not fakes or not reals:
        return None
    values, place = np.unique(s, return_inverse=True)
    counts = np.bincount(place, minlength=len(values))
    # The mean rank of equal scores, counted from one (Mann and Whitney's U).
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((rank[y].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, rounds: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the AUC, drawing whole groups, since videos of one person aren't independent.

    Args:
        labels: 0 real, 1 fake, shape (N,).
        scores: shape (N,).
        groups: what is drawn together, shape (N,).
        rounds: of the bootstrap.
        seed: of the draws.

    Returns:
        (low, high); None where one class is missing.
    """
    y, s, g = np.asarray(labels), np.asarray(scores, np.float64), np.asarray(groups)
    members = [np.flatnonzero(g == name) for name in np.unique(g)]
    if not members:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(rounds):
        picked = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        auc = roc_auc(y[picked], s[picked])
        if auc is not None:
            drawn.append(auc)
    if not drawn:
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
