"""Figures of judged crops or videos with bootstrap intervals over groups: as a whole, by slice, and under damage.

Every figure is computed for many weightings of the rows at once. Weights of 1 give the figure itself; the number of
times that each group was drawn gives a round of the bootstrap. The tests compare the figures with those of
scikit-learn, which would need minutes for all rounds. An undefined figure is NaN in arrays and None in records.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from torchfakes_cli.records import Verdict
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.corpora.base import FAKE, REAL
from torchfakes_cli.training.evaluate.findings import Bin, Counts, Damage, Estimate, Figures, Slice
from torchfakes_cli.training.evaluate.perturb import Perturbation

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Fewer groups of a label give no interval: a single group that is always drawn would look like certainty.
MIN_GROUPS = 10
#: Figures of ``Figures`` with an interval, in the order of the columns of ``weighted_figures``.
ESTIMATED = (
    *("auc", "eer", "average_precision", "accuracy", "balanced_accuracy"),
    *("log_loss", "brier", "ece", "coverage", "selective_accuracy"),
)
#: Borders of the slices by a video's median face size (pixels) and sharpness (variance of the Laplacian).
BORDERS = {"face_size": (64, 96, 128, 192, 256), "sharpness": (100, 300, 1000)}
#: Draws × rows computed at once, which bounds the memory.
_CELLS = 1 << 21
#: Distance from 0 and 1 of the probabilities in the log loss, as in scikit-learn.
_EPSILON = float(np.finfo(np.float64).eps)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Return the area under the ROC curve; None if a class is missing."""
    fake = np.asarray(labels, bool)
    return float(roc_auc_score(fake, np.asarray(scores, np.float64))) if fake.any() and not fake.all() else None


def figures(table: pd.DataFrame, config: EvaluateConfig) -> Figures:
    """Compute all figures of crops or videos.

    The table has the columns ``label``, ``group``, ``logit`` and ``p_fake`` (NaN without a score), and ``verdict``.
    """
    scored = table[table["logit"].notna()]
    fakes = int((scored["label"] == FAKE).sum())
    found = estimates(table, lambda weights: weighted_figures(table, weights, config.bins), config)
    return Figures(
        real=len(scored) - fakes,
        fake=fakes,
        unscored=len(table) - len(scored),
        groups=table["group"].nunique(),
        **dict(zip(ESTIMATED, found, strict=True)),
        verdicts=verdict_counts(table),
        reliability=reliability(scored, config.bins),
        missing=missing_class(scored),
    )


def point_figures(table: pd.DataFrame, bins: int) -> dict[str, float | None]:
    """Return the figures without intervals, by their names in ``ESTIMATED``."""
    (values,) = weighted_figures(table, np.ones((1, len(table))), bins)
    return {name: _known(value) for name, value in zip(ESTIMATED, values, strict=True)}


def auc_estimate(table: pd.DataFrame, config: EvaluateConfig) -> Estimate:
    """Estimate the AUC from the columns ``label``, ``group`` and ``logit``."""
    scored = table[table["logit"].notna()]
    fake, logits = _is_fake(scored), scored["logit"].to_numpy(np.float64)
    (found,) = estimates(scored, lambda weights: rank_figures(fake, logits, weights)[:, :1], config)
    return found


def estimates(table: pd.DataFrame, statistic: Callable[[Floats], Floats], config: EvaluateConfig) -> list[Estimate]:
    """Compute figures with 95 % percentile intervals that draw whole groups: videos of one person are not independent.

    ``statistic`` takes weights of the shape (draws, rows) and returns figures of the shape (draws, K). Draws with NaN,
    such as those without a class, are left out. There are no intervals if a label has fewer than ``MIN_GROUPS`` groups.
    """
    (values,) = statistic(np.ones((1, len(table))))
    bounds = np.full((2, len(values)), math.nan)
    if len(table) and (table.groupby("label")["group"].nunique() >= MIN_GROUPS).all():
        members, names = pd.factorize(table["group"], sort=True)
        chances = np.full(len(names), 1 / len(names))
        rng = np.random.default_rng(config.seed)
        step = max(1, _CELLS // len(table))
        draws = [
            statistic(
                rng.multinomial(len(names), chances, min(step, config.rounds - start))[:, members].astype(np.float64)
            )
            for start in range(0, config.rounds, step)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a figure that no draw has
            bounds = np.nanquantile(np.concatenate(draws), [0.025, 0.975], axis=0)
    return [Estimate(*map(_known, figure)) for figure in zip(values, *bounds, strict=True)]


def weighted_figures(table: pd.DataFrame, weights: Floats, bins: int) -> Floats:
    """Compute the figures named in ``ESTIMATED``, shape (draws, figures), for weights of the shape (draws, rows).

    The calibration error is that of Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning"
    (2015). With few examples it is above 0 even for perfect probabilities.
    """
    firm = (table["verdict"] != Verdict.INCONCLUSIVE.value).to_numpy(bool)
    correct = (table["verdict"] == table["label"]).to_numpy(bool)
    seen = table["logit"].notna().to_numpy(bool)
    fake, own = _is_fake(table)[seen], weights[:, seen]
    logits, p = (table[name].to_numpy(np.float64)[seen] for name in ("logit", "p_fake"))
    right = (p >= 0.5) == fake
    loss = -np.log(np.clip(np.where(fake, p, 1 - p), _EPSILON, 1 - _EPSILON))
    gaps = np.eye(bins)[_bin_of(p, bins)] * (p - fake)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        # Reals and fakes each sum up to a half; NaN if a class has no weight.
        even = (own * ~fake / (own @ ~fake)[:, None] + own * fake / (own @ fake)[:, None]) / 2
        columns = [
            own @ right / own.sum(1),
            even @ right,
            even @ loss,
            even @ (p - fake) ** 2,
            np.abs(even @ gaps).sum(1),
            weights @ firm / weights.sum(1),
            weights @ correct / (weights @ firm),
        ]
    # Without rows, the sums above are 0.
    both = (own @ fake > 0) & (own @ ~fake > 0)
    for column in columns[1:5]:
        column[~both] = math.nan
    return np.column_stack([rank_figures(fake, logits, own), *columns])


def rank_figures(fake: Bools, scores: Floats, weights: Floats) -> Floats:
    """Compute AUC, equal error rate and average precision as scikit-learn does with sample weights.

    Args:
        fake: labels, shape (N,).
        scores: higher for fake, shape (N,).
        weights: shape (draws, N).

    Returns:
        Shape (draws, 3); NaN if a class has no weight.
    """
    order = np.argsort(-scores, kind="stable")
    # Only the last of equal scores is a threshold.
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))[: len(order)]
    hits, alarms = (
        np.pad(np.cumsum(weights[:, order] * label[order], 1)[:, last], ((0, 0), (1, 0))) for label in (fake, ~fake)
    )
    both = (hits[:, -1] > 0) & (alarms[:, -1] > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits / (hits + alarms))
        hits, alarms = hits / hits[:, -1:], alarms / alarms[:, -1:]
    found = np.full((len(weights), 3), math.nan)
    found[both, 0] = (np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(1)[both]
    found[both, 1] = [
        np.interp(0.0, hit + alarm - 1, alarm) for hit, alarm in zip(hits[both], alarms[both], strict=True)
    ]
    found[both, 2] = (np.diff(hits) * precision[:, 1:]).sum(1)[both]
    return found


def reliability(scored: pd.DataFrame, bins: int) -> tuple[Bin, ...]:
    """Return the bins of a reliability plot; empty if a class is missing."""
    if missing_class(scored):
        return ()
    fake, p = _is_fake(scored), scored["p_fake"].to_numpy(np.float64)
    even = np.where(fake, 0.5 / fake.sum(), 0.5 / (~fake).sum())
    places = _bin_of(p, bins)
    found = []
    for place in range(bins):
        inside = places == place
        weights = even[inside]
        mean_p, share_fake = (
            float(np.average(values[inside], weights=weights)) if len(weights) else None for values in (p, fake)
        )
        found.append(Bin(place / bins, (place + 1) / bins, len(weights), mean_p, share_fake))
    return tuple(found)


def verdict_counts(table: pd.DataFrame) -> Counts:
    """Count the verdicts of each label."""
    counts = table.groupby(["label", "verdict"]).size()
    return {
        label: {verdict.value: int(counts.get((label, verdict.value), 0)) for verdict in Verdict}
        for label in (REAL, FAKE)
    }


def missing_class(scored: pd.DataFrame) -> str:
    """Return why figures that compare real with fake are undefined; empty if they are defined."""
    labels = set(scored["label"])
    if not labels:
        return "nothing was scored"
    return "" if len(labels) == 2 else f"there is nothing {REAL if FAKE in labels else FAKE} to compare with"


def slice_videos(videos: pd.DataFrame, config: EvaluateConfig) -> tuple[Slice, ...]:
    """Measure each method, compression, face size and sharpness of ``judge_videos`` by itself."""
    return tuple(
        Slice(
            by=by,
            name=name,
            real=int((part["label"] == REAL).sum()),
            fake=int((part["label"] == FAKE).sum()),
            against=against,
            auc=auc_estimate(part, config),
            verdicts=verdict_counts(part),
            missing=missing_class(part[part["logit"].notna()]),
        )
        for by, name, against, part in _slices(videos)
    )


def _slices(videos: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Yield the criterion, the slice's name, which reals are in it, and its videos."""
    for method, against, part in methods(videos):
        yield "method", method, against, part
    if videos["compression"].nunique() > 1:
        for compression, part in videos.groupby("compression"):
            yield "compression", str(compression) or "unknown", "reals so compressed", part
    for column, against in (("face_size", "reals of that size"), ("sharpness", "reals so sharp")):
        borders = BORDERS[column]
        middle = [f"{low} to {high}" for low, high in pairwise(borders)]
        names = [f"below {borders[0]}", *middle, f"{borders[-1]} and more"]
        bins = pd.cut(videos[column], [-math.inf, *borders, math.inf], right=False, labels=names)
        for name, part in videos.groupby(bins, observed=True):
            yield column.replace("_", " "), str(name), against, part


def methods(videos: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each method, which reals it is compared with, and its fakes with these reals.

    The reals are the originals of these fakes if there are any, else all reals.
    """
    reals = videos[videos["label"] == REAL]
    for method, fakes in videos[videos["label"] == FAKE].groupby("method"):
        originals = reals[reals["video"].isin(fakes["source"])]
        have = int(fakes["source"].isin(originals["video"]).sum())
        against = "their originals" if have == len(fakes) else f"the originals of {have} of them"
        yield str(method), against if have else "all reals", pd.concat([originals if have else reals, fakes])


def measure_damage(
    perturbation: Perturbation | None, before: pd.DataFrame, after: pd.DataFrame, config: EvaluateConfig
) -> Damage:
    """Compare the verdicts on damaged crops with those on the same crops undamaged.

    Both tables are from ``judge_videos``, in the same order.
    """
    was_right, is_right = ((videos["verdict"] == videos["label"]).to_numpy(bool) for videos in (before, after))
    firm = (after["verdict"] != Verdict.INCONCLUSIVE.value).to_numpy(bool)
    lost = was_right & ~is_right
    return Damage(
        kind=perturbation.kind.value if perturbation else "",
        level=perturbation.level if perturbation else 0,
        value=perturbation.value if perturbation else None,
        auc=auc_estimate(after, config),
        verdicts=verdict_counts(after),
        correct=int(is_right.sum()),
        flipped=float((lost & firm).sum() / was_right.sum()) if was_right.any() else None,
        withdrawn=float((lost & ~firm).sum() / was_right.sum()) if was_right.any() else None,
    )


def _is_fake(table: pd.DataFrame) -> Bools:
    return (table["label"] == FAKE).to_numpy(bool)


def _bin_of(p: Floats, bins: int) -> NDArray[np.intp]:
    """Return the bin of each probability; 1 falls into the last one."""
    return np.asarray(np.minimum(p * bins, bins - 1), np.intp)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
