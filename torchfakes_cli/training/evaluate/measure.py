"""How well a network does on crops with known labels, and what its scores mean."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from torchfakes_cli.config import VerdictConfig
from torchfakes_cli.detector.calibration import fit_platt, probability, real_fake_thresholds
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.scoring import SCORE_BATCH, Detector
from torchfakes_cli.errors import DataError, ModelError
from torchfakes_cli.scan.verdict import trimmed_mean
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.crops.reading import read_crop
from torchfakes_cli.training.evaluate.metrics import auc_interval, roc_auc

#: What makes a person in a video: several methods may call their videos alike.
TRACK_KEYS = ["label", "method", "video", "face"]
_VIDEO_KEYS = ["video", "label", "method", "group", "source"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a network does on some crops.

    Attributes:
        crops: how many.
        videos: how many.
        frame_auc: over crops; None where a class is missing.
        video_auc: over videos, scored by the verdict's rule; None where a class is missing.
        video_auc_interval: 95 % bootstrap over groups; None where not computed.
        called_fake: share of the crops with a positive logit.
        by_method: video AUC of each manipulation against the originals of its fakes where these are there, else
            against all reals.
    """

    crops: int
    videos: int
    frame_auc: float | None
    video_auc: float | None
    video_auc_interval: tuple[float, float] | None = None
    called_fake: float = 0.0
    by_method: dict[str, float] = field(default_factory=dict)


def score_crops(
    network: nn.Module, table: pd.DataFrame, folder: Path, header: Header, device: torch.device,
    unreadable: Callable[[DataError], None],
) -> pd.DataFrame:  # fmt: skip
    """Score crops with the detector's own code.

    Args:
        network: stays as it is.
        table: rows of a manifest.
        folder: the manifest's.
        header: says how crops become input.
        device: where to compute.
        unreadable: told of each crop that can't be read.

    Returns:
        The rows that could be read, with a column ``logit``.

    Raises:
        DataError: there are rows, but none could be read.
        ModelError: a logit is no number.
    """
    detector = Detector(copy.deepcopy(network), header, device)
    paths = [folder / crop for crop in table["crop"]]
    places: list[int] = []
    logits: list[float] = []
    for start in range(0, len(paths), SCORE_BATCH):
        pictures = []
        for place in range(start, min(start + SCORE_BATCH, len(paths))):
            try:
                pictures.append(read_crop(paths[place]))
            except DataError as error:
                unreadable(error)
            else:
                places.append(place)
        logits += detector.score(pictures).tolist()
    if paths and not places:
        raise DataError(
            f"none of {len(paths)} crops could be read", path=folder, advice="Run 'torchfakes prepare' again."
        )
    if not np.isfinite(logits).all():
        raise ModelError("the network's scores are no numbers any more", advice="Try a lower --learning-rate.")
    return table.iloc[places].assign(logit=logits)


def measure(rows: pd.DataFrame, *, interval: bool = False) -> Scores:
    """Compare scored rows with their labels.

    Args:
        rows: as ``score_crops`` gives them.
        interval: compute the bootstrap interval too.
    """
    if rows.empty:
        return Scores(0, 0, None, None)
    videos = video_scores(rows)
    labels, logits = _is_fake(videos), videos["logit"]
    return Scores(
        crops=len(rows),
        videos=len(videos),
        frame_auc=roc_auc(_is_fake(rows), rows["logit"]),
        video_auc=roc_auc(labels, logits),
        video_auc_interval=auc_interval(labels, logits, videos["group"]) if interval else None,
        called_fake=float((rows["logit"] > 0).mean()),
        by_method=_auc_by_method(videos),
    )


def calibrated(header: Header, rows: pd.DataFrame, splits: str = "validation") -> Header:
    """The header with calibration and thresholds fitted on scored rows of people that the scoring wasn't fitted on.

    Args:
        header: keeps all else.
        rows: with a column ``logit``.
        splits: that they are of, in words.
    """
    videos = video_scores(rows)
    labels = _is_fake(videos)
    slope, intercept = fit_platt(videos["logit"].to_numpy(float), labels)
    chances = [probability(logit, slope, intercept) for logit in videos["logit"]]
    real_below, fake_above = real_fake_thresholds(chances, labels)
    return replace(
        header,
        slope=slope,
        intercept=intercept,
        calibrated_on=f"{len(videos)} {splits} videos of {videos['group'].nunique()} groups",
        real_below=real_below,
        fake_above=fake_above,
    )


def moving_pictures(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of videos; stills would tell apart kinds of pictures, not fakes. All rows if there is nothing else."""
    moving = rows[rows.groupby(["label", "method", "video"])["frame"].transform("nunique") > 1]
    return moving if len(moving) else rows


def thinned(table: pd.DataFrame, frames: int) -> pd.DataFrame:
    """At most so many crops of each person in each video, evenly over its length."""
    place = table.groupby(TRACK_KEYS).cumcount()
    count = table.groupby(TRACK_KEYS)["crop"].transform("size")
    kept = np.minimum(count, frames)
    return table[(place * kept // count) != ((place - 1) * kept // count)]


def video_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Score videos from their crops by the verdict's rule: the robust mean of a track, the worst lasting track decides.

    Args:
        rows: with the columns video, label, method, group, source, face and logit.

    Returns:
        One row a video, with the columns video, label, method, group, source and logit.
    """
    policy = VerdictConfig()
    videos = []
    for key, crops in rows.groupby(_VIDEO_KEYS, sort=True):
        faces = [track["logit"].tolist() for _, track in crops.groupby("face")]
        lasting = [logits for logits in faces if len(logits) >= policy.min_faces] or faces
        worst = max(trimmed_mean(logits, policy.trim) for logits in lasting)
        videos.append((*key, worst))
    return pd.DataFrame(videos, columns=[*_VIDEO_KEYS, "logit"])


def counterparts(videos: pd.DataFrame, fakes: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The reals that some fakes are compared with.

    Returns:
        The originals of these fakes where any are there, else all reals; and which, in words.
    """
    reals = videos[videos["label"] == REAL]
    originals = reals[reals["video"].isin(fakes["source"])]
    if originals.empty:
        return reals, "all reals"
    have = int(fakes["source"].isin(originals["video"]).sum())
    return originals, "their originals" if have == len(fakes) else f"the originals of {have} of them"


def _auc_by_method(videos: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for method, fakes in videos[videos["label"] == FAKE].groupby("method"):
        both = pd.concat([counterparts(videos, fakes)[0], fakes])
        auc = roc_auc(_is_fake(both), both["logit"])
        if auc is not None:
            found[str(method)] = round(auc, 4)
    return found


def _is_fake(rows: pd.DataFrame) -> NDArray[np.int64]:
    return np.asarray(rows["label"] == FAKE, np.int64)
