"""Other ways from the scores of a person's faces to the person's score, so that the verdict's own can be judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from torchfakes_cli.config import VerdictConfig
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.scan.verdict import build_tracks, trimmed_mean
from torchfakes_cli.training.evaluate.figures import Judged, auc_estimate
from torchfakes_cli.training.evaluate.findings import Rule
from torchfakes_cli.training.evaluate.verdicts import VIDEO_KEYS, policy_of, timeline_of

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
    """How well each rule tells fake videos from real ones; in all, the most suspicious lasting track decides.

    Args:
        rows: as ``judge_videos`` takes them.
        header: with the thresholds.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    policy = policy_of(header)
    keys, logits_of = [], []
    for key, crops in rows.groupby(VIDEO_KEYS, sort=True):
        timeline = timeline_of(crops)
        scored = [track for track in build_tracks(timeline, policy, lambda _: 0.5) if track.faces_scored]
        deciding = [track for track in scored if track.lasting] or scored
        keys.append(key)
        logits_of.append(
            [
                [row.logit for row in timeline if row.track == track.number and row.logit is not None]
                for track in deciding
            ]
        )
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
