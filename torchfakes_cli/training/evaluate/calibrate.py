"""Calibration and thresholds fitted on held-out videos, and their quality on others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from torchfakes_cli.detector.calibration import CALIBRATION as RECORD
from torchfakes_cli.detector.calibration import fit_platt, fit_temperature, probability, real_fake_thresholds
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.records import Reason
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.corpora.base import FAKE, REAL
from torchfakes_cli.training.crops.manifest import TRAINED_ON, group_marks, known_groups
from torchfakes_cli.training.evaluate.findings import Calibration, Probabilities
from torchfakes_cli.training.evaluate.metrics import auc_estimate, methods, missing_class, point_figures, verdict_counts
from torchfakes_cli.training.evaluate.scores import judge_videos
from torchfakes_cli.version import __version__

#: A checkpoint whose calibration was fitted on fewer videos, or fewer of a class, doesn't count as calibrated.
MIN_VIDEOS, MIN_OF_CLASS = 20, 5
#: Key in ``training`` of a header: the reason why.
NOT_CALIBRATED = "calibration"
#: Reasons that depend on the thresholds; the others hold for every calibration.
_SCORE_REASONS = ("", Reason.BETWEEN_THRESHOLDS, Reason.FRAMES_DISAGREE, Reason.PART_OF_CLIP)


def check_target(path: Path, *, force: bool) -> None:
    """Check before the work begins that a new checkpoint may be written to this path."""
    if path.is_dir() or (path.exists() and not force):
        cause = "is a folder" if path.is_dir() else "is there already"
        raise OutputError(cause, path=path, advice="Name another file for the calibrated checkpoint, or use --force.")


def calibrate(checkpoint: Path, rows: pd.DataFrame, source: str, config: EvaluateConfig) -> Calibration:
    """Fit calibration and thresholds, and write a checkpoint with the same weights to ``config.calibrate``.

    The rows are those of ``judge_videos``, scored by this checkpoint; ``source`` names the crops.

    Raises:
        DataError: the detector was trained on some of the people, a class is missing, or the scores don't separate real
            from fake.
    """
    state, header = load_checkpoint(checkpoint)
    header = with_coarse_weight(header, config)
    videos = judge_videos(rows, header)
    if known := trained_groups(header, videos["group"]):
        cause = f"{header.name} was trained on groups of the same names as {known} of {videos['group'].nunique()}"
        advice = "Its scores are better on these people than on others: calibrate on people that it never saw."
        raise DataError(cause, path=source, advice=advice)
    deciding = videos[_by_score(videos)]
    if missing_class(deciding):
        reals, fakes = (int((deciding["label"] == label).sum()) for label in (REAL, FAKE))
        cause = f"{reals} real and {fakes} fake videos of the split {config.split} can be scored"
        raise DataError(cause, path=source, advice="A calibration needs both.")
    new = fitted_header(header, deciding, config)
    if not new.slope:
        cause = f"the scores of {header.name} don't separate real from fake on {len(deciding)} videos"
        raise DataError(cause, path=source, advice="There is nothing to calibrate: train the detector further.")
    groups = deciding["group"].nunique()
    fitted_on = f"{len(deciding)} {config.split} videos of {groups} groups of {source}"
    tried, folds = cross_validated(rows, header, config)
    record = {
        "method": config.calibration,
        "false_alarms": config.false_alarms,
        "missed_fakes": config.missed_fakes,
        TRAINED_ON: group_marks(deciding["group"]),
        "cross_validated": asdict(tried) if tried else None,
        "footage": f"{len(deciding)} videos of {groups} people or pieces of footage",
        "auc": _aucs(videos, config),
    }
    # Counts of verdicts at the old thresholds would no longer be true.
    kept = {name: value for name, value in header.metrics.items() if not name.endswith("verdicts")}
    new = replace(
        new,
        calibrated_on=f"{fitted_on} ({config.calibration})",
        metrics={**kept, RECORD: record},
        version=__version__,
        created=datetime.now(UTC).date().isoformat(),
    )
    target = Path(config.calibrate or "")
    save_checkpoint(target, state, new, next(iter(state.values())).dtype)
    before = quality(videos, config.bins)
    note = ""
    if tried is None:
        note = "There are too few groups of each label to try the new calibration on others than it was fitted on."
    elif tried.log_loss is not None and before.log_loss is not None and tried.log_loss >= before.log_loss:
        note = (
            "On groups they weren't fitted on, calibrations like the new one have no lower log loss than the old one: "
            "there may be too few videos to fit it (or the old one was fitted on these)."
        )
    return Calibration(
        path=str(target),
        method=config.calibration,
        fitted_on=fitted_on,
        false_alarms=config.false_alarms,
        missed_fakes=config.missed_fakes,
        **{name: getattr(new, name) for name in ("slope", "intercept", "real_below", "fake_above")},
        before=before,
        fitted=quality(judge_videos(rows, new), config.bins),
        cross_validated=tried,
        folds=folds,
        note=note,
    )


def with_coarse_weight(header: Header, config: EvaluateConfig) -> Header:
    """Return the header with the weight of coarse copies that a measurement asks for.

    Calibration and metrics are of logits with the earlier weight: with another one they are gone.
    """
    if config.coarse_weight in (None, header.coarse_weight):
        return header
    blank = Header(name=header.name)
    lost = ("slope", "intercept", "calibrated_on", "fake_above", "real_below", "metrics")
    return replace(header, coarse_weight=config.coarse_weight, **{field: getattr(blank, field) for field in lost})


def calibrated(header: Header, videos: pd.DataFrame) -> Header:
    """Calibrate the detector of a training on validation videos, as of ``judge_videos`` without a calibration.

    With too few videos, the header doesn't claim to be calibrated, and gives the reason in ``training``.
    """
    header = fitted_header(header, videos, EvaluateConfig())
    reals, fakes = (int((videos["label"] == label).sum()) for label in (REAL, FAKE))
    training = {name: value for name, value in header.training.items() if name != NOT_CALIBRATED}
    if reals + fakes >= MIN_VIDEOS and min(reals, fakes) >= MIN_OF_CLASS:
        note = f"{len(videos)} validation videos of {videos['group'].nunique()} groups"
        return replace(header, calibrated_on=note, training=training)
    doubt = f"thresholds and p_fake come from only {reals} real and {fakes} fake validation videos, and mean little"
    return replace(header, calibrated_on="", training={**training, NOT_CALIBRATED: doubt})


def fitted_header(header: Header, videos: pd.DataFrame, config: EvaluateConfig) -> Header:
    """Return the header with slope, intercept and thresholds fitted on videos with a score."""
    fake = (videos["label"] == FAKE).to_numpy(np.int64)
    fit = fit_platt if config.calibration == "platt" else fit_temperature
    slope, intercept = fit(videos["logit"].to_numpy(np.float64), fake)
    p = [probability(logit, slope, intercept) for logit in videos["logit"]]
    real_below, fake_above = real_fake_thresholds(p, fake, config.false_alarms, config.missed_fakes)
    return replace(header, slope=slope, intercept=intercept, real_below=real_below, fake_above=fake_above)


def cross_validated(rows: pd.DataFrame, header: Header, config: EvaluateConfig) -> tuple[Probabilities | None, int]:
    """Measure calibrations on groups that they weren't fitted on.

    Returns:
        Their quality and the number of folds; None and 0 if too few groups have each class.
    """
    videos = judge_videos(rows, header)
    scored = videos[videos["p_fake"].notna()]
    deciding = _by_score(scored)
    groups = scored[deciding].groupby("label")["group"].nunique()
    folds = min(config.folds, int(groups.min())) if len(groups) == 2 else 0
    if folds < 2:
        return None, 0
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=config.seed)
    parts = [videos[videos["p_fake"].isna()]]
    for fit_on, measure_on in splitter.split(scored, scored["label"], scored["group"]):
        known = scored.iloc[fit_on][deciding.iloc[fit_on]]
        if known["label"].nunique() < 2:
            return None, 0
        # Videos that can't decide are not fitted on, but have probabilities as well.
        others = rows[rows["group"].isin(scored["group"].iloc[measure_on])]
        judged = judge_videos(others, fitted_header(header, known, config))
        parts.append(judged[judged["p_fake"].notna()])
    return quality(pd.concat([part for part in parts if len(part)]), config.bins), folds


def quality(videos: pd.DataFrame, bins: int) -> Probabilities:
    """Measure probabilities and verdicts."""
    found = point_figures(videos, bins)
    return Probabilities(found["log_loss"], found["brier"], found["ece"], verdict_counts(videos))


def _aucs(videos: pd.DataFrame, config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    """Return the video AUC of all fakes and of each method, for the header."""
    scored = videos[videos["logit"].notna()]
    found: dict[str, dict[str, Any]] = {}
    for name, against, part in (("all", "all reals", scored), *methods(scored)):
        auc = auc_estimate(part, config)
        interval = None if auc.low is None else [auc.low, auc.high]
        fakes = int((part["label"] == FAKE).sum())
        found[name] = {"videos": fakes, "against": against, "auc": auc.value, "interval": interval}
    return found


def _by_score(videos: pd.DataFrame) -> pd.Series[bool]:
    """Return which videos have a verdict that depends on the thresholds."""
    return videos["reason"].isin(_SCORE_REASONS)


def fitted_groups(header: Header, groups: Iterable[str]) -> int:
    """Return on how many of these groups, by their names, a checkpoint's calibration was fitted."""
    return known_groups(header.metrics.get(RECORD), groups)


def trained_groups(header: Header, groups: Iterable[str]) -> int:
    """Return on how many of these groups, by their names, a checkpoint, its start or its teacher was trained."""
    return known_groups(header.training, groups)
