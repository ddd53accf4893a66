"""All figures of judged crops or videos with their bootstrap intervals: as a whole, by slices, and under damage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.records import Verdict
from torchfakes_cli.scan.config import VerdictConfig
from torchfakes_cli.scan.verdict import build_tracks, trimmed_mean
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.evaluate import metrics
from torchfakes_cli.training.evaluate.findings import Damage, Estimate, Figures, Rule, Slice
from torchfakes_cli.training.evaluate.metrics import MIN_GROUPS, bootstrap_interval, weighted_roc
from torchfakes_cli.training.evaluate.perturb import Perturbation
from torchfakes_cli.training.evaluate.scores import VIDEO_KEYS, counterparts, policy_of, timelines

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Fields of ``Figures`` that are estimated, in the order in which ``weighted_figures`` computes them.
ESTIMATED = (
    *("auc", "eer", "average_precision", "accuracy", "balanced_accuracy"),
    *("log_loss", "brier", "ece", "coverage", "selective_accuracy"),
)
#: Probabilities are kept this far from 0 and 1 in the log loss, as scikit-learn does.
_TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Judged:
    """Crops or videos with a label and a verdict, as arrays of the shape (N,).

    Attributes:
        fake: the label.
        logits: NaN where there is no score.
        p_fake: NaN without a score.
        verdicts: as text.
        groups: as text.
    """

    fake: Bools
    logits: Floats
    p_fake: Floats
    verdicts: NDArray[np.str_]
    groups: NDArray[np.str_]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Judged:
        """From the columns label, logit, p_fake, verdict and group."""
        return cls(
            fake=(table["label"] == FAKE).to_numpy(bool),
            logits=table["logit"].to_numpy(np.float64),
            p_fake=table["p_fake"].to_numpy(np.float64),
            verdicts=np.array(table["verdict"].tolist(), np.str_),
            groups=np.array([ascii(group) for group in table["group"]], np.str_),
        )

    @property
    def scored(self) -> Bools:
        """Which have a score."""
        return np.isfinite(self.logits)

    @property
    def firm(self) -> Bools:
        """Which verdicts are not inconclusive."""
        return np.asarray(self.verdicts != Verdict.INCONCLUSIVE.value)

    @property
    def right(self) -> Bools:
        """Which verdicts are firm and right."""
        return np.asarray(self.verdicts == np.where(self.fake, Verdict.FAKE.value, Verdict.REAL.value))


def figures(judged: Judged, *, rounds: int, bins: int, seed: int) -> Figures:
    """Compute every figure.

    Args:
        judged: what it is about; may be empty or of one class.
        rounds: of the bootstrap.
        bins: of the calibration error.
        seed: of the bootstrap.
    """
    seen = judged.scored
    fake, p = judged.fake[seen], judged.p_fake[seen]
    values = point_figures(judged, bins)
    intervals: list[tuple[float, float] | None] = [None] * len(ESTIMATED)
    if enough_groups(judged.fake, judged.groups):
        statistic = partial(weighted_figures, judged, bins=bins)
        intervals = bootstrap_interval(judged.groups, statistic, rounds, seed)
    return Figures(
        real=int((~fake).sum()),
        fake=int(fake.sum()),
        unscored=int((~seen).sum()),
        groups=len(np.unique(judged.groups)),
        **{name: estimate(value, interval) for name, value, interval in zip(ESTIMATED, values, intervals, strict=True)},
        verdicts=verdict_table(judged),
        reliability=metrics.reliability(fake, p, bins),
        missing=missing_classes(fake),
    )


def point_figures(judged: Judged, bins: int) -> list[float | None]:
    """The figures named in ``ESTIMATED``, as scikit-learn has them."""
    seen = judged.scored
    fake, logits, p = judged.fake[seen], judged.logits[seen], judged.p_fake[seen]
    firm = judged.firm
    return [
        metrics.roc_auc(fake, logits),
        metrics.equal_error_rate(fake, logits),
        metrics.average_precision(fake, logits),
        metrics.accuracy(fake, p >= 0.5),
        metrics.balanced_accuracy(fake, p >= 0.5),
        metrics.log_loss(fake, p),
        metrics.brier_score(fake, p),
        metrics.calibration_error(fake, p, bins),
        float(firm.mean()) if len(firm) else None,
        float(judged.right[firm].mean()) if firm.any() else None,
    ]


def weighted_figures(judged: Judged, weights: Floats, bins: int) -> Floats:
    """The same figures for many weightings at once: scikit-learn would take minutes for a bootstrap of them all.

    Args:
        judged: N crops or videos.
        weights: shape (draws, N).
        bins: of the calibration error.

    Returns:
        Shape (draws, len(ESTIMATED)); NaN where a figure is undefined.
    """
    seen = judged.scored
    fake, p = judged.fake[seen], judged.p_fake[seen]
    own = weights[:, seen]
    if not seen.any():
        unknown = np.full((len(weights), len(ESTIMATED)), np.nan)
        unknown[:, ESTIMATED.index("coverage")] = 0.0
        return unknown
    reals, fakes = own @ ~fake, own @ fake
    roc = weighted_roc(fake, judged.logits[seen], own)
    right = (p >= 0.5) == fake
    safe = np.clip(p, _TINY, 1 - _TINY)
    loss = -np.log(np.where(fake, safe, 1 - safe))
    inside = np.eye(bins)[metrics.bin_places(p, bins)] * (p - fake)[:, None]
    firm, correct = weights @ judged.firm, weights @ judged.right
    with np.errstate(invalid="ignore", divide="ignore"):

        def even(values: Floats) -> Floats:
            """Mean with real and fake weighing the same in sum, of values of the shape (N,) or (N, K)."""
            wide = values.reshape(len(values), -1)
            of_reals = (own @ (wide * ~fake[:, None])) / reals[:, None]
            of_fakes = (own @ (wide * fake[:, None])) / fakes[:, None]
            return (of_reals + of_fakes) / 2

        columns = [
            roc.auc(),
            roc.equal_error_rate(),
            roc.average_precision(),
            (own @ right) / own.sum(1),
            even(right.astype(np.float64))[:, 0],
            even(loss)[:, 0],
            even((p - fake) ** 2)[:, 0],
            np.abs(even(inside)).sum(1),
            firm / weights.sum(1),
            correct / firm,
        ]
    return np.stack(columns, 1)


def auc_estimate(judged: Judged, *, rounds: int, seed: int) -> Estimate:
    """The AUC alone."""
    seen = judged.scored
    fake, logits, groups = judged.fake[seen], judged.logits[seen], judged.groups[seen]
    interval = metrics.auc_interval(fake, logits, groups, rounds, seed) if enough_groups(fake, groups) else None
    return estimate(metrics.roc_auc(fake, logits), interval)


def enough_groups(fake: Bools, groups: NDArray[np.str_]) -> bool:
    """Whether every label present has enough groups for a meaningful bootstrap over them."""
    return bool(len(fake)) and all(len(np.unique(groups[fake == label])) >= MIN_GROUPS for label in np.unique(fake))


def estimate(value: float | None, interval: tuple[float, float] | None) -> Estimate:
    """Put a figure and its interval together."""
    return Estimate() if value is None else Estimate(value, *(interval or (None, None)))


def verdict_table(judged: Judged) -> dict[str, dict[str, int]]:
    """How many real and fake ones get which verdict."""
    return {
        label: {verdict.value: int((judged.verdicts[of_label] == verdict.value).sum()) for verdict in Verdict}
        for label, of_label in ((REAL, ~judged.fake), (FAKE, judged.fake))
    }


def missing_classes(fake: Bools) -> str:
    """Reason why figures that compare real with fake can't be computed; empty where they can."""
    if metrics.both_classes(fake):
        return ""
    if not len(fake):
        return "nothing was scored"
    return "there is nothing real to compare with" if fake.any() else "there is nothing fake to compare with"


#: Borders between bins of the median face size of a video, in pixels of its frames.
FACE_SIZES = (64, 96, 128, 192, 256)
#: Borders between bins of the median sharpness of a video (variance of the Laplacian; a scan scores from 30 on).
SHARPNESSES = (100, 300, 1000)


def slice_videos(videos: pd.DataFrame, *, rounds: int, seed: int) -> tuple[Slice, ...]:
    """Every slice that says more than the whole.

    Args:
        videos: as ``judge_videos`` gives them.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    found = []
    for by, name, against, part in _parts(videos):
        judged = Judged.of(part)
        seen = judged.fake[judged.scored]
        found.append(
            Slice(
                by=by,
                name=name,
                real=int((~judged.fake).sum()),
                fake=int(judged.fake.sum()),
                against=against,
                auc=auc_estimate(judged, rounds=rounds, seed=seed),
                verdicts=verdict_table(judged),
                missing=missing_classes(seen),
            )
        )
    return tuple(found)


def _parts(videos: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """What it is sliced by, the slice's name, which reals are in it, and its videos."""
    for method, fakes in videos[videos["label"] == FAKE].groupby("method"):
        reals, against = counterparts(videos, fakes)
        yield "method", str(method), against, pd.concat([reals, fakes])
    if videos["compression"].nunique() > 1:
        for compression, part in videos.groupby("compression"):
            yield "compression", str(compression) or "unknown", "reals so compressed", part
    yield from _binned(videos, "face size", "face_size", FACE_SIZES, "reals of that size")
    yield from _binned(videos, "sharpness", "sharpness", SHARPNESSES, "reals so sharp")


def _binned(
    videos: pd.DataFrame, by: str, column: str, borders: Sequence[int], against: str
) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    names = [f"below {borders[0]}"]
    names += [f"{low} to {high}" for low, high in pairwise(borders)]
    names.append(f"{borders[-1]} and more")
    places = pd.cut(videos[column], [-float("inf"), *borders, float("inf")], right=False, labels=names)
    for name, part in videos.groupby(places, observed=True):
        yield by, str(name), against, part


Logits = Sequence[float]


def _upper(logits: Logits, count: int) -> float:
    return float(np.mean(sorted(logits)[-count:]))


#: From the logits of a track, at least one, to the track's; the scan's own first.
RULES: dict[str, Callable[[Logits], float]] = {
    "trimmed mean, as a scan has it": lambda logits: trimmed_mean(logits, VerdictConfig().trim),
    "mean": lambda logits: float(np.mean(logits)),
    "median": lambda logits: float(np.median(logits)),
    "mean of the more suspicious half": lambda logits: _upper(logits, math.ceil(len(logits) / 2)),
    "mean of the three most suspicious": lambda logits: _upper(logits, 3),
    "the most suspicious face": lambda logits: _upper(logits, 1),
}


def compare_rules(rows: pd.DataFrame, header: Header, *, rounds: int, seed: int) -> tuple[Rule, ...]:
    """How well each rule separates fake videos from real ones; in each, the most suspicious lasting track decides.

    Args:
        rows: as ``judge_videos`` takes them.
        header: with the thresholds.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    policy = policy_of(header)
    keys, logits_of = [], []
    for key, timeline in timelines(rows, VIDEO_KEYS):
        scored = [track for track in build_tracks(timeline, policy, lambda _: 0.5) if track.faces_scored]
        deciding = [track.number for track in scored if track.lasting] or [track.number for track in scored]
        faces = [(row.track, row.logit) for row in timeline if row.logit is not None]
        keys.append(key)
        logits_of.append([[logit for number, logit in faces if number == track] for track in deciding])
    videos = pd.DataFrame(keys, columns=VIDEO_KEYS).assign(logit=math.nan, p_fake=math.nan, verdict="")
    judged = Judged.of(videos)
    return tuple(
        Rule(
            name,
            auc_estimate(
                replace(
                    judged,
                    logits=np.array([max(map(rule, tracks), default=math.nan) for tracks in logits_of], np.float64),
                ),
                rounds=rounds,
                seed=seed,
            ),
        )
        for name, rule in RULES.items()
    )


def measure_damage(
    perturbation: Perturbation | None, before: pd.DataFrame, after: pd.DataFrame, *, rounds: int, seed: int
) -> Damage:
    """Compare the verdicts on damaged crops with those on the same crops undamaged.

    Args:
        perturbation: what was done; None for nothing.
        before: the videos undamaged, as ``judge_videos`` gives them.
        after: the same videos damaged, in the same order.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    first, then = Judged.of(before), Judged.of(after)
    lost = first.right & ~then.right
    right = int(first.right.sum())
    return Damage(
        kind=perturbation.kind.value if perturbation else "",
        level=perturbation.level if perturbation else 0,
        value=perturbation.value if perturbation else None,
        auc=auc_estimate(then, rounds=rounds, seed=seed),
        verdicts=verdict_table(then),
        correct=int(then.right.sum()),
        flipped=int((lost & then.firm).sum()) / right if right else None,
        withdrawn=int((lost & ~then.firm).sum()) / right if right else None,
    )
