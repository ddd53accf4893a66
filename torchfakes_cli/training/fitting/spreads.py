"""Fits what each kind's own covariance adds to a texture (see ``detector.spreads``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.detector.spreads import Spreads

Values = NDArray[np.float64]

#: So much of what differs among a kind's own videos is added to the covariance of all kinds where that kind is judged.
#: Chosen by cross-validation over the groups of 195 public clips: see docs/experiments.md.
OWN = 0.2


def fit_spreads(
    videos: Mapping[str, Values], owners: Sequence[str], centres: Values, covariance: Values, temperature: float
) -> tuple[Spreads, Values]:
    """What each kind's own covariance changes.

    With the covariance C + s·XᵀX/(n−1) instead of C, where the rows of X are a kind's n videos less their mean, and
    XᵀX/(n−1) has the variances σ² in the directions v after whitening by C, the logarithm of its normal density gains
    ½·Σ λ/(1+λ)·(v·whitened distance)² − ½·Σ log(1+λ), λ = s·σ².

    Args:
        videos: of each kind that there are crops of, N×D.
        owners: of K kinds, whose covariance each has; one made up has its real kind's.
        centres: of each of them, from the mean real face, K×D.
        covariance: of all kinds, D×D.
        temperature: that log-likelihoods are divided by.

    Returns:
        The directions, and what is to be taken from the constant of each of the K kinds.
    """
    apart_of = [rows - rows.mean(0) for rows in videos.values()]
    # Of all kinds at once: a large matrix is taken apart for it.
    unlike_of = np.linalg.solve(covariance, np.concatenate(apart_of).T)
    ends = np.cumsum([len(apart) for apart in apart_of])[:-1]
    directions, whose, constants = [], [], {}
    for kind, apart, unlike in zip(videos, apart_of, np.split(unlike_of, ends, axis=1), strict=True):
        share = OWN / max(1, len(apart) - 1)
        added, turned = np.linalg.eigh(share * apart @ unlike)
        # The rows sum to zero: there is a direction less than rows, and one less for each copy of a video.
        kept = added > 1e-9 * max(1.0, added.max())
        directions.append(np.sqrt(share / (1 + added[kept]) / temperature)[:, None] * (unlike @ turned[:, kept]).T)
        whose += [kind] * int(kept.sum())
        constants[kind] = np.log1p(added[kept]).sum() / 2 / temperature
    every = np.concatenate(directions)
    spreads = Spreads(
        every.astype(np.float32),
        (centres @ every.T).astype(np.float32),
        (np.array(owners)[:, None] == np.array(whose, str)).astype(np.float32),
    )
    return spreads, np.array([constants[kind] for kind in owners])
