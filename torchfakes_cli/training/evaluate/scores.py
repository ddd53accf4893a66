"""Scores of crops and videos: a detector's logits, and the verdicts that a scan of the same faces would give."""

from __future__ import annotations

import copy
import math
import statistics
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from torchfakes_cli.detector.calibration import probability
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import SCORE_BATCH, Detector
from torchfakes_cli.detector.preprocess import box_part
from torchfakes_cli.errors import DataError, ModelError
from torchfakes_cli.records import Face, FaceScore, Verdict
from torchfakes_cli.scan.config import VerdictConfig
from torchfakes_cli.scan.verdict import Policy, build_tracks, decide, deciding_track, settle_policy, trimmed_mean
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.corpora.base import FAKE, REAL
from torchfakes_cli.training.crops.manifest import read_crop
from torchfakes_cli.training.evaluate.findings import Altered, Rule
from torchfakes_cli.training.evaluate.metrics import auc_estimate, methods, roc_auc
from torchfakes_cli.training.evaluate.perturb import Perturbation, Picture, perturb

#: Logits by damage (None for undamaged), of the shape (detectors, crops); NaN for a crop that was not scored.
Logits = dict[Perturbation | None, NDArray[np.float32]]

#: What identifies a person in a video: the videos of several methods may have the same name.
TRACK_KEYS = ["label", "method", "video", "face"]
VIDEO_KEYS = ["video", "label", "method", "group", "source", "split", "compression"]
#: Smallest share of a person's crops that a fake must have changed for the person to count as altered.
ALTERED_SHARE = 0.5
_JUDGED = ["faces", "faces_scored", "face_size", "sharpness", "logit", "p_fake", "verdict", "reason", "flagged"]


def score_crops(
    network: nn.Module, table: pd.DataFrame, folder: Path, header: Header, device: torch.device, unreadable: set[str]
) -> pd.DataFrame:
    """Score crops during a training; return the rows that could be read, with a column ``logit``.

    The network is not changed; ``unreadable`` gets the crops that can't be read, with the reasons.
    """
    detector = Detector(copy.deepcopy(network), header, device)
    logits, reasons = score_conditions([detector], table, folder, advice="Try a lower --lr.")
    unreadable.update(reasons)
    scored = table.assign(logit=logits[None][0].astype(np.float64))
    return scored[scored["logit"].notna()]


def score_conditions(
    detectors: Sequence[Detector],
    table: pd.DataFrame,
    folder: Path,
    perturbations: Sequence[Perturbation] = (),
    to_damage: NDArray[np.bool_] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, wanted: None,
    advice: str = "The checkpoint is likely damaged: choose another one with --model.",
) -> tuple[Logits, list[str]]:
    """Score crops as they are and damaged, with the detectors' own code.

    Args:
        detectors: one or more.
        table: rows of a manifest.
        folder: folder of the manifest.
        perturbations: damage to measure.
        to_damage: which rows to damage; None for none.
        seed: seed of the noise; the same crop gets the same noise regardless of other settings.
        progress: called with the numbers of pictures scored and to score.
        advice: what to do about a logit that is not finite.

    Returns:
        The logits, and the crops that couldn't be read, with the reasons.

    Raises:
        DataError: there are rows, but none could be read.
        ModelError: a logit is not finite.
    """
    damage = np.zeros(len(table), bool) if to_damage is None else to_damage
    boxes = table[["x2", "y2"]].to_numpy(float) - table[["x1", "y1"]].to_numpy(float)
    logits: Logits = {
        condition: np.full((len(detectors), len(table)), np.nan, np.float32) for condition in (None, *perturbations)
    }
    unreadable: list[str] = []
    done, wanted = 0, len(table) + int(damage.sum()) * len(perturbations)
    pictures = _pictures(table, folder, perturbations, damage, seed, unreadable)
    while batch := list(islice(pictures, SCORE_BATCH)):
        for number, detector in enumerate(detectors):
            boxed = detector.crop_shape == "box"
            found = detector.score([box_part(crop, *boxes[row]) if boxed else crop for _, row, crop in batch])
            if not np.isfinite(found).all():
                raise ModelError(f"the detector {detector.name} gives scores that are no numbers", advice=advice)
            for (condition, row, _), logit in zip(batch, found, strict=True):
                logits[condition][number, row] = logit
        done += len(batch)
        progress(done, wanted)
    if len(table) and len(unreadable) == len(table):
        cause = f"none of {len(table)} crops could be read"
        raise DataError(cause, path=folder, advice="Run 'torchfakes prepare' again.")
    return logits, unreadable


def _pictures(
    table: pd.DataFrame,
    folder: Path,
    perturbations: Sequence[Perturbation],
    damage: NDArray[np.bool_],
    seed: int,
    unreadable: list[str],
) -> Iterator[tuple[Perturbation | None, int, Picture]]:
    """Yield the damage, the row and the picture of each crop to score, person by person."""
    crops, frames = table["crop"].tolist(), table["frame"].to_numpy()
    for rows in table.groupby(TRACK_KEYS).indices.values():
        clip: list[tuple[int, Picture]] = []
        for row in sorted(map(int, rows), key=lambda row: frames[row]):
            try:
                clip.append((row, read_crop(folder / crops[row])))
            except DataError as error:
                unreadable.append(str(error))
        yield from ((None, row, crop) for row, crop in clip)
        chosen = [(row, crop) for row, crop in clip if damage[row]]
        for perturbation in perturbations if chosen else ():
            rng = np.random.default_rng([seed, zlib.crc32(f"{perturbation} {crops[chosen[0][0]]!a}".encode())])
            damaged = perturb([crop for _, crop in chosen], perturbation, rng)
            yield from ((perturbation, row, crop) for (row, _), crop in zip(chosen, damaged, strict=True))


@dataclass(frozen=True, slots=True)
class Scores:
    """Quality of a network during a training; None if a class is missing."""

    crops: int
    videos: int
    frame_auc: float | None
    video_auc: float | None  # by the verdict rule
    video_auc_interval: tuple[float, float] | None = None  # 95 % bootstrap interval over groups, if asked for
    called_fake: float = 0.0  # share of the crops with a positive logit
    by_method: dict[str, float] = field(default_factory=dict)  # video AUC against the fakes' originals or all reals


def measure(rows: pd.DataFrame, videos: pd.DataFrame, *, interval: bool = False) -> Scores:
    """Compare scored rows, and their videos as of ``judge_videos``, with their labels.

    ``interval`` computes the interval of the video AUC, too.
    """
    if rows.empty:
        return Scores(0, 0, None, None)
    found = auc_estimate(videos, EvaluateConfig()) if interval else None
    by_method = {name: roc_auc(part["label"] == FAKE, part["logit"]) for name, _, part in methods(videos)}
    return Scores(
        crops=len(rows),
        videos=len(videos),
        frame_auc=roc_auc(rows["label"] == FAKE, rows["logit"]),
        video_auc=roc_auc(videos["label"] == FAKE, videos["logit"]),
        video_auc_interval=None if found is None or found.low is None else (found.low, found.high or 0.0),
        called_fake=float((rows["logit"] > 0).mean()),
        by_method={name: round(auc, 4) for name, auc in by_method.items() if auc is not None},
    )


def moving_pictures(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of videos, since stills would separate kinds of pictures, not fakes; all rows without videos."""
    moving = rows[rows.groupby(["label", "method", "video"])["frame"].transform("nunique") > 1]
    return moving if len(moving) else rows


def thinned(table: pd.DataFrame, frames: int) -> pd.DataFrame:
    """Limit the crops of each person in each video, spread evenly over its length."""
    place = table.groupby(TRACK_KEYS).cumcount()
    count = table.groupby(TRACK_KEYS)["crop"].transform("size")
    kept = np.minimum(count, frames)
    return table[(place * kept // count) != ((place - 1) * kept // count)]


def with_compression(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``compression``: the folder ``raw``, ``c23`` or ``c40`` of FaceForensics++ in a name, or empty."""
    if "compression" in table:
        return table
    return table.assign(compression=table["video"].str.extract(r"(?:^|/)(raw|c\d+)/", expand=False).fillna(""))


def with_stills(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``still``: True for the only crop of a file if it is from the first frame, at time 0.

    ``prepare`` samples the middles of equal parts: a single sample of a clip is a later frame. The table must be the
    whole manifest, since other crops of a clip may have flaws. A clip of a single frame can't be told from a still.
    """
    if "still" in table and table["still"].dtype == bool:  # a manifest of another program may have such a column
        return table
    alone = ~table.duplicated(["label", "method", "video"], keep=False)
    return table.assign(still=alone & (table["frame"] == 0) & (table["time_s"] == 0))


def _keys(rows: pd.DataFrame) -> list[str]:
    return [name for name in VIDEO_KEYS if name in rows]


def policy_of(header: Header) -> Policy:
    """Return a scan's policy with a checkpoint's thresholds."""
    return settle_policy(VerdictConfig(), fake_above=header.fake_above, real_below=header.real_below)


def timelines(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], list[FaceScore], bool]]:
    """Yield each video, by those of ``VIDEO_KEYS`` that are there, its timeline as in a scan, and whether it's a still.

    The rows have a column ``logit``, NaN for a face too blurry to score. The number of a face is that of its track, and
    its box has the right size, but not the place.
    """
    of_video, in_time = itemgetter(*_keys(rows)), itemgetter("time_s", "frame", "face")
    columns = [*_keys(rows), "time_s", "frame", "face", "face_size", "sharpness", "logit", "still"]
    records = with_stills(rows)[columns].to_dict("records")
    records.sort(key=lambda row: (of_video(row), in_time(row)))
    for key, video in groupby(records, of_video):
        timeline, still = [], False
        for row in video:
            face = Face((0.0, 0.0, float(row["face_size"]), float(row["face_size"])), 1.0, ((0.0, 0.0),) * 5)
            place = (float(row["time_s"]), int(row["frame"]), int(row["face"]), face, float(row["sharpness"]))
            blurry = math.isnan(row["logit"])
            timeline.append(FaceScore(*place, logit=None if blurry else row["logit"], note="blurry" if blurry else ""))
            still = row["still"]
        yield key, timeline, still


def judge_videos(rows: pd.DataFrame, header: Header) -> pd.DataFrame:
    """Judge videos by the verdict rule of a scan.

    Returns:
        One row per video (those of one name, but of different methods, are different) with ``faces``, ``faces_scored``,
        the medians ``face_size`` and ``sharpness``, ``logit`` and ``p_fake`` of the deciding track (NaN without a
        score), ``verdict``, ``reason`` (empty if firm), and ``flagged`` (the people above the threshold).
    """
    policy, keys = policy_of(header), _keys(rows)
    videos = []
    for key, timeline, still in timelines(rows):
        decision = decide(
            timeline, policy, lambda logit: probability(logit, header.slope, header.intercept), picture=still
        )
        best = deciding_track(decision.tracks, policy)
        videos.append(
            {
                **dict(zip(keys, key, strict=True)),
                "faces": len(timeline),
                "faces_scored": sum(face.logit is not None for face in timeline),
                "face_size": statistics.median(face.face.size for face in timeline if face.face),
                "sharpness": statistics.median(face.sharpness for face in timeline if face.sharpness is not None),
                "logit": math.nan if best is None or best.logit is None else best.logit,
                "p_fake": math.nan if decision.p_fake is None else decision.p_fake,
                "verdict": decision.verdict.value,
                "reason": decision.reason.value if decision.reason else "",
                "flagged": [
                    track.number
                    for track in decision.tracks
                    if track.lasting and not track.doubt and (track.p_fake or 0.0) >= policy.fake_above
                ],
            }
        )
    return pd.DataFrame(videos, columns=[*keys, *_JUDGED])


def judge_crops(rows: pd.DataFrame, header: Header) -> pd.DataFrame:
    """Return the scored rows with ``p_fake`` and the ``verdict`` of each crop by the thresholds for videos."""
    policy = policy_of(header)
    scored = rows[rows["logit"].notna()]
    p = np.array([probability(logit, header.slope, header.intercept) for logit in scored["logit"]], np.float64)
    verdicts = np.where(p < policy.real_below, Verdict.REAL.value, Verdict.INCONCLUSIVE.value)
    verdicts = np.where(p >= policy.fake_above, Verdict.FAKE.value, verdicts)
    return scored.assign(p_fake=p, verdict=verdicts.astype(str))


def with_altered(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``altered``: True for the crops of people who are known to be altered.

    Known are fakes that were cut with the boxes of their originals. Their crops of a person whom they didn't change are
    missing, because ``prepare`` leaves them out; a few may remain where compression changed a face. The table must be
    the whole manifest.
    """
    if "boxes_from" not in table:
        return table.assign(altered=False)
    shown = table[table["label"] == REAL].groupby(["video", "face"]).size()
    changed = table.groupby(TRACK_KEYS)["crop"].transform("size")
    originals = pd.Series(zip(table["source"], table["face"], strict=True), table.index).map(shown)
    of_pair = (table["label"] == FAKE) & (table["boxes_from"] == "original")
    return table.assign(altered=of_pair & (changed >= ALTERED_SHARE * originals))


def count_altered(rows: pd.DataFrame, header: Header) -> Altered | None:
    """Count the fake videos called fake, and those whose altered person (``with_altered``) is above the threshold."""
    fakes, reals = rows[rows["altered"]], rows[rows["label"] == REAL]
    if fakes.empty:
        return None
    # The fakes show the other people of their originals, too.
    others = (
        fakes[VIDEO_KEYS]
        .drop_duplicates()
        .merge(reals.drop(columns=VIDEO_KEYS).assign(source=reals["video"]), on="source")
    )
    people = [*VIDEO_KEYS, "face"]
    others = others[~pd.MultiIndex.from_frame(others[people]).isin(pd.MultiIndex.from_frame(fakes[people]))]
    faces = pd.concat([fakes, others])
    videos = judge_videos(faces, header)
    called_fake = (videos["verdict"] == FAKE).tolist()
    # In the order of the videos.
    altered = faces[faces["altered"]].groupby(VIDEO_KEYS)["face"].agg(set)
    hits = [
        called and not people.isdisjoint(flagged)
        for called, people, flagged in zip(called_fake, altered, videos["flagged"], strict=True)
    ]
    alone = faces.groupby(VIDEO_KEYS)["altered"].all()
    return Altered(len(videos), int((~alone).sum()), sum(called_fake), sum(hits))


#: Rules from the logits of a person's faces (one or more) to the person's; first that of a scan.
RULES: dict[str, Callable[[Sequence[float]], float]] = {
    "trimmed mean, as a scan has it": lambda logits: trimmed_mean(logits, VerdictConfig().trim),
    "mean": statistics.fmean,
    "median": statistics.median,
    "mean of the more suspicious half": lambda logits: statistics.fmean(sorted(logits)[len(logits) // 2 :]),
    "mean of the three most suspicious": lambda logits: statistics.fmean(sorted(logits)[-3:]),
    "the most suspicious face": max,
}


def compare_rules(rows: pd.DataFrame, header: Header, config: EvaluateConfig) -> tuple[Rule, ...]:
    """Measure how well each rule separates fake videos from real ones; the most suspicious lasting track decides."""
    policy = policy_of(header)
    keys: list[tuple[str, ...]] = []
    people: list[list[list[float]]] = []
    for key, timeline, still in timelines(rows):
        tracks = build_tracks(timeline, policy, lambda _: 0.5, picture=still)
        scored = [track for track in tracks if track.faces_scored]
        deciding = [track.number for track in scored if track.lasting] or [track.number for track in scored]
        keys.append(key)
        people.append(
            [[row.logit for row in timeline if row.track == number and row.logit is not None] for number in deciding]
        )
    videos = pd.DataFrame(keys, columns=VIDEO_KEYS)
    return tuple(
        Rule(name, auc_estimate(videos.assign(logit=[max(map(rule, of), default=math.nan) for of in people]), config))
        for name, rule in RULES.items()
    )
