"""From scored crops to the verdicts that a scan of the same faces would give."""

from __future__ import annotations

import math
import re
from typing import cast

import numpy as np
import pandas as pd

from torchfakes_cli.config import VerdictConfig
from torchfakes_cli.detector.calibration import probability
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.records import Face, FaceScore, Verdict
from torchfakes_cli.scan.verdict import Policy, agreed_bounds, decide, deciding_track, settle_policy
from torchfakes_cli.training.corpora import FAKE, REAL

VIDEO_KEYS = ["video", "label", "method", "group", "source", "split", "compression"]
_COMPRESSION = re.compile(r"raw|c\d+")


def with_compression(table: pd.DataFrame) -> pd.DataFrame:
    """A manifest with the column ``compression``: its own where it has one, else from the video's name.

    In FaceForensics++'s layout a folder above the video is called ``raw``, ``c23`` or ``c40``; empty where none is.
    """
    if "compression" in table:
        return table.assign(compression=table["compression"].fillna("").astype(str))
    return table.assign(compression=[compression_of(video) for video in table["video"]])


def compression_of(video: str) -> str:
    """The compression that a video's name tells, or an empty text.

    Example:
        >>> compression_of("manipulated_sequences/Deepfakes/c23/videos/000_003")
        'c23'
    """
    return next((part for part in video.split("/")[:-1] if _COMPRESSION.fullmatch(part)), "")


def policy_of(header: Header) -> Policy:
    """A scan's policy with a checkpoint's thresholds."""
    return settle_policy(VerdictConfig(), fake_above=header.fake_above, real_below=header.real_below)


def judge_videos(rows: pd.DataFrame, header: Header) -> pd.DataFrame:
    """Judge videos by a scan's own rule.

    Videos of the same name but of another method, label or source stay apart.

    Args:
        rows: of a manifest with ``compression`` and ``logit``, NaN for a face too blurry to score; and with
            ``strangeness`` where that was measured.
        header: with calibration and thresholds.

    Returns:
        One row a video: the keys, ``faces`` and ``faces_scored``, the medians ``face_size`` and ``sharpness``,
        ``logit`` and ``p_fake`` (NaN without a score), ``logit_low`` and ``logit_high`` of the deciding track's faces
        (see ``scan.verdict.agreed_bounds``; NaN likewise), ``verdict`` and ``reason`` (empty with a firm verdict).
    """
    policy = policy_of(header)
    videos = []
    for key, crops in rows.groupby(VIDEO_KEYS, sort=True):
        decision = decide(timeline_of(crops), policy, lambda x: probability(x, header.slope, header.intercept))
        best = deciding_track(decision.tracks, policy)
        low = high = math.nan
        if best is not None:
            low, high = agreed_bounds(
                crops.loc[(crops["face"] == best.number) & crops["logit"].notna(), "logit"], policy.agreement
            )
        videos.append(
            (
                *cast(tuple[str, ...], key),
                len(crops),
                int(crops["logit"].notna().sum()),
                float(crops["face_size"].median()),
                float(crops["sharpness"].median()),
                math.nan if best is None or best.logit is None else best.logit,
                math.nan if decision.p_fake is None else decision.p_fake,
                low,
                high,
                decision.verdict.value,
                decision.reason.value if decision.reason else "",
            )
        )
    columns = [
        "faces",
        "faces_scored",
        "face_size",
        "sharpness",
        "logit",
        "p_fake",
        "logit_low",
        "logit_high",
        "verdict",
        "reason",
    ]
    return pd.DataFrame(videos, columns=[*VIDEO_KEYS, *columns])


def verdict_counts(videos: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many real and fake videos get which verdict.

    Args:
        videos: as ``judge_videos`` gives them.

    Returns:
        ``{"real": {"real": 7, "fake": 1, "inconclusive": 4}, "fake": …}``.
    """
    counts = {label: {verdict.value: 0 for verdict in Verdict} for label in (REAL, FAKE)}
    for label, verdict in zip(videos["label"], videos["verdict"], strict=True):
        counts[label][verdict] += 1
    return counts


def judge_crops(rows: pd.DataFrame, header: Header) -> pd.DataFrame:
    """The scored rows with ``p_fake`` and the verdict that each crop would have by the thresholds for videos."""
    policy = policy_of(header)
    scored = rows[rows["logit"].notna()]
    p = np.array([probability(logit, header.slope, header.intercept) for logit in scored["logit"]], np.float64)
    verdicts = np.where(p < policy.real_below, Verdict.REAL.value, Verdict.INCONCLUSIVE.value)
    verdicts = np.where(p >= policy.fake_above, Verdict.FAKE.value, verdicts)
    return scored.assign(p_fake=p, verdict=verdicts.astype(str))


def timeline_of(crops: pd.DataFrame) -> list[FaceScore]:
    """The timeline that a scan would have of a video's crops; a face's number is its track's.

    Of each face's box it has the size alone.
    """
    ordered = crops.sort_values(["time_s", "frame", "face"])
    if "strangeness" not in ordered:
        ordered = ordered.assign(strangeness=math.nan)
    names = ("time_s", "frame", "face", "face_size", "sharpness", "logit", "strangeness")
    return [
        FaceScore(
            float(time_s),
            int(frame),
            int(track),
            Face((0.0, 0.0, float(size), float(size)), 1.0, ((0.0, 0.0),) * 5),
            float(sharpness),
            None if math.isnan(logit) else logit,
            note="blurry" if math.isnan(logit) else "",
            strangeness=None if math.isnan(strangeness) else strangeness,
        )
        for time_s, frame, track, size, sharpness, logit, strangeness in zip(
            *(ordered[name].tolist() for name in names), strict=True
        )
    ]
