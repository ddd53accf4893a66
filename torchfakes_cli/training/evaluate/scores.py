"""Scores of crops and videos: a detector's logits, and the verdicts that a scan of the same faces would give."""

from __future__ import annotations

import copy
import math
import re
import statistics
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from torchfakes_cli.detector.calibration import fit_platt, probability, real_fake_thresholds
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import SCORE_BATCH, Detector
from torchfakes_cli.detector.preprocess import box_part
from torchfakes_cli.errors import DataError, ModelError
from torchfakes_cli.records import Face, FaceScore, Verdict
from torchfakes_cli.scan.config import VerdictConfig
from torchfakes_cli.scan.verdict import Policy, agreed_bounds, decide, deciding_track, settle_policy, window_logit
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.crops.manifest import read_crop
from torchfakes_cli.training.evaluate.metrics import MIN_GROUPS, auc_interval, roc_auc
from torchfakes_cli.training.evaluate.perturb import Perturbation, Picture, perturb

Logits = NDArray[np.float32]

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
        unreadable: called with each crop that can't be read.

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
        raise ModelError("the network's scores are no numbers any more", advice="Try a lower --lr.")
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
        video_auc_interval=auc_interval(labels, logits, videos["group"]) if interval and _enough(videos) else None,
        called_fake=float((rows["logit"] > 0).mean()),
        by_method=_auc_by_method(videos),
    )


def _enough(videos: pd.DataFrame) -> bool:
    """True if both labels have enough people for a meaningful interval, as in ``evaluate``."""
    return bool((videos.groupby("label")["group"].nunique() >= MIN_GROUPS).all())


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
    """The rows of videos; stills would separate kinds of pictures, not fakes. All rows if there is nothing else."""
    moving = rows[rows.groupby(["label", "method", "video"])["frame"].transform("nunique") > 1]
    return moving if len(moving) else rows


def thinned(table: pd.DataFrame, frames: int) -> pd.DataFrame:
    """Limit the crops of each person in each video, spread evenly over its length."""
    place = table.groupby(TRACK_KEYS).cumcount()
    count = table.groupby(TRACK_KEYS)["crop"].transform("size")
    kept = np.minimum(count, frames)
    return table[(place * kept // count) != ((place - 1) * kept // count)]


def video_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Score videos by a scan's own rule, see :mod:`torchfakes_cli.scan.verdict`.

    Args:
        rows: of a manifest with a column ``logit``.

    Returns:
        One row a video: video, label, method, group, source, and the logit of the track that decides.
    """
    policy = settle_policy(VerdictConfig(), fake_above=0.5, real_below=0.5)
    videos = []
    for key, timeline in timelines(rows, _VIDEO_KEYS):
        best = deciding_track(decide(timeline, policy, probability).tracks, policy)
        videos.append((*key, math.nan if best is None or best.logit is None else best.logit))
    return pd.DataFrame(videos, columns=[*_VIDEO_KEYS, "logit"])


def timelines(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[str, ...], list[FaceScore]]]:
    """Each video and the timeline that a scan would have of its crops; a face's number is its track's.

    Of each face's box it has the size alone.

    Args:
        rows: of a manifest with a column ``logit``, NaN for a face too blurry to score.
        keys: columns that identify a video.
    """
    ordered = rows.sort_values([*keys, "time_s", "frame", "face"])
    names = (*keys, "time_s", "frame", "face", "face_size", "sharpness", "logit")
    cells = zip(*(ordered[name].tolist() for name in names), strict=True)
    for key, video in groupby(cells, lambda row: row[: len(keys)]):
        timeline = []
        for time_s, frame, track, size, sharpness, logit in (row[len(keys) :] for row in video):
            face = Face((0.0, 0.0, float(size), float(size)), 1.0, ((0.0, 0.0),) * 5)
            scored = not math.isnan(logit)
            timeline.append(
                FaceScore(
                    *(float(time_s), int(frame), int(track), face, float(sharpness)),
                    logit=logit if scored else None,
                    note="" if scored else "blurry",
                )
            )
        yield key, timeline


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


@dataclass(frozen=True, slots=True)
class CropScores:
    """Logits of crops, in arrays of the shape (detectors, crops).

    Attributes:
        undamaged: of the crops as they are; NaN for a crop that couldn't be read.
        damaged: for each perturbation the same; NaN too for crops that were not to be damaged.
        unreadable: why, a line for each crop that couldn't be read.
    """

    undamaged: Logits
    damaged: dict[Perturbation, Logits]
    unreadable: tuple[str, ...]


def score_conditions(
    detectors: Sequence[Detector],
    table: pd.DataFrame,
    folder: Path,
    perturbations: Sequence[Perturbation],
    to_damage: NDArray[np.bool_],
    seed: int,
    progress: Callable[[int, int], None],
) -> CropScores:
    """Score crops with the detectors' own code.

    Args:
        detectors: one or more.
        table: rows of a manifest.
        folder: the manifest's.
        perturbations: what to do to crops besides nothing.
        to_damage: to which of the rows.
        seed: of the noise; the same crop gets the same noise regardless of other settings.
        progress: called with (pictures scored, pictures to score).

    Raises:
        DataError: there are rows, but none could be read.
        ModelError: a logit is no number.
    """
    wanted = len(table) + int(to_damage.sum()) * len(perturbations)
    boxes = table[["x2", "y2"]].to_numpy(float) - table[["x1", "y1"]].to_numpy(float)
    queue = _Queue(detectors, boxes, [None, *perturbations], wanted, progress)
    unreadable = []
    crops = table["crop"].tolist()
    frames = table["frame"].to_numpy()
    for places in table.groupby(TRACK_KEYS).indices.values():
        clip: list[tuple[int, Picture]] = []
        for place in sorted(places, key=lambda place: frames[place]):
            try:
                clip.append((int(place), read_crop(folder / crops[place])))
            except DataError as error:
                unreadable.append(str(error))
        for place, picture in clip:
            queue.add(None, place, picture)
        chosen = [(place, picture) for place, picture in clip if to_damage[place]]
        for perturbation in perturbations if chosen else ():
            rng = np.random.default_rng([seed, zlib.crc32(f"{perturbation} {crops[chosen[0][0]]!a}".encode())])
            damaged = perturb([picture for _, picture in chosen], perturbation, rng)
            for (place, _), picture in zip(chosen, damaged, strict=True):
                queue.add(perturbation, place, picture)
    queue.flush()
    if crops and len(unreadable) == len(crops):
        cause = f"none of {len(crops)} crops could be read"
        raise DataError(cause, path=folder, advice="Run 'torchfakes prepare' again.")
    of_damaged = {perturbation: queue.found[perturbation] for perturbation in perturbations}
    return CropScores(queue.found[None], of_damaged, tuple(unreadable))


class _Queue:
    """Gathers pictures until a batch is full, and puts each score where it belongs."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        boxes: NDArray[np.float64],
        conditions: Sequence[Perturbation | None],
        wanted: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._detectors, self._boxes = detectors, boxes
        self._wanted, self._progress = wanted, progress
        self._pictures: list[Picture] = []
        self._slots: list[tuple[Perturbation | None, int]] = []
        self._done = 0
        self.found = {condition: np.full((len(detectors), len(boxes)), np.nan, np.float32) for condition in conditions}

    def add(self, condition: Perturbation | None, place: int, picture: Picture) -> None:
        """Take in a picture."""
        self._pictures.append(picture)
        self._slots.append((condition, place))
        if len(self._pictures) == SCORE_BATCH:
            self.flush()

    def flush(self) -> None:
        """Score what is there."""
        for number, detector in enumerate(self._detectors):
            pictures = self._pictures
            if detector.crop_shape == "box":
                boxes = [self._boxes[place] for _, place in self._slots]
                pictures = [box_part(picture, *box) for picture, box in zip(pictures, boxes, strict=True)]
            logits = detector.score(pictures)
            if not np.isfinite(logits).all():
                cause = f"the detector {detector.name} gives scores that are no numbers"
                raise ModelError(cause, advice="The checkpoint is likely damaged: choose another one with --model.")
            for (condition, place), logit in zip(self._slots, logits, strict=True):
                self.found[condition][number, place] = logit
        self._done += len(self._pictures)
        self._progress(self._done, self._wanted)
        self._pictures, self._slots = [], []


VIDEO_KEYS = ["video", "label", "method", "group", "source", "split", "compression"]
_JUDGED = [
    *("faces", "faces_scored", "face_size", "sharpness", "logit", "p_fake"),
    *("logit_low", "logit_high", "logit_window"),
    *("verdict", "reason"),
]
_COMPRESSION = re.compile(r"raw|c\d+")


def with_compression(table: pd.DataFrame) -> pd.DataFrame:
    """A manifest with the column ``compression``: its own where it has one, else from the video's name.

    In FaceForensics++'s layout a folder above the video is called ``raw``, ``c23`` or ``c40``; empty where none is.
    """
    if "compression" in table:
        return table.assign(compression=table["compression"].fillna("").astype(str))
    return table.assign(compression=[compression_of(video) for video in table["video"]])


def compression_of(video: str) -> str:
    """Compression in a video's name, or an empty string.

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
        rows: of a manifest with ``compression`` and ``logit``, NaN for a face too blurry to score.
        header: with calibration and thresholds.

    Returns:
        One row a video: the keys, ``faces`` and ``faces_scored``, the medians ``face_size`` and ``sharpness``,
        ``logit`` and ``p_fake`` (NaN without a score), ``logit_low`` and ``logit_high`` of the deciding track's faces
        (see ``scan.verdict.agreed_bounds``; NaN without a score), ``logit_window`` of the most suspicious window (see
        ``scan.verdict.window_logit``; NaN without one), ``verdict`` and ``reason`` (empty for a firm verdict).
    """
    policy = policy_of(header)
    videos = []
    for key, timeline in timelines(rows, VIDEO_KEYS):
        decision = decide(timeline, policy, lambda x: probability(x, header.slope, header.intercept))
        best = deciding_track(decision.tracks, policy)
        window = window_logit(timeline, decision.tracks, policy)
        low = high = math.nan
        if best is not None:
            low, high = agreed_bounds([face.logit for face in timeline if face.track == best.number], policy.agreement)
        videos.append(
            {
                **dict(zip(VIDEO_KEYS, key, strict=True)),
                "faces": len(timeline),
                "faces_scored": sum(face.logit is not None for face in timeline),
                "face_size": statistics.median(face.face.size for face in timeline if face.face),
                "sharpness": statistics.median(face.sharpness for face in timeline if face.sharpness is not None),
                "logit": math.nan if best is None or best.logit is None else best.logit,
                "p_fake": math.nan if decision.p_fake is None else decision.p_fake,
                "logit_low": low,
                "logit_high": high,
                "logit_window": math.nan if window is None else window,
                "verdict": decision.verdict.value,
                "reason": decision.reason.value if decision.reason else "",
            }
        )
    return pd.DataFrame(videos, columns=[*VIDEO_KEYS, *_JUDGED])


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
