"""A calibration and thresholds from the scores of held-out videos, and what they are worth on others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from torchfakes_cli.detector.calibration import fit_platt, fit_temperature, probability, real_fake_thresholds
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.figures import CALIBRATION as RECORD
from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.records import Reason
from torchfakes_cli.scan.verdict import judge
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.evaluate import metrics
from torchfakes_cli.training.evaluate.figures import Judged, auc_estimate, verdict_table
from torchfakes_cli.training.evaluate.findings import Calibration, Probabilities
from torchfakes_cli.training.evaluate.scores import counterparts, policy_of
from torchfakes_cli.version import __version__


def check_target(path: Path, *, force: bool) -> None:
    """Make sure, before the work begins, that a new checkpoint may go to this path.

    Raises:
        OutputError: something is there, and ``force`` isn't set.
    """
    if path.is_dir() or (path.exists() and not force):
        cause = "is a folder" if path.is_dir() else "is there already"
        raise OutputError(cause, path=path, advice="Name another file for the calibrated checkpoint, or use --force.")


def calibrate(checkpoint: Path, videos: pd.DataFrame, source: str, config: EvaluateConfig) -> Calibration:
    """Fit calibration and thresholds and write a checkpoint with the same weights.

    Args:
        checkpoint: of the detector that scored the videos.
        videos: as ``judge_videos`` gives them, of people the detector wasn't trained on.
        source: name of the crops, for the checkpoint's record.
        config: where to, and how.

    Raises:
        DataError: the detector was trained on some of the people, a class is missing, or the scores don't separate real
            from fake.
        OutputError: the checkpoint can't be written.
    """
    state, header = load_checkpoint(checkpoint)
    if known := trained_groups(header, videos["group"]):
        cause = f"{header.name} was trained on groups of the same names as {known} of {videos['group'].nunique()}"
        advice = "It is surer of these people than it will be of others: calibrate on people that it never saw."
        raise DataError(cause, path=source, advice=advice)
    deciding = videos[_lasting(videos)]
    fake = Judged.of(deciding).fake
    if not metrics.both_classes(fake):
        cause = f"{int((~fake).sum())} real and {int(fake.sum())} fake videos of the split {config.split} can be scored"
        raise DataError(cause, path=source, advice="A calibration needs both.")
    new = fitted_header(header, deciding, config)
    if not new.slope:
        cause = f"the scores of {header.name} don't separate real from fake on {len(deciding)} videos"
        raise DataError(cause, path=source, advice="There is nothing to calibrate: train the detector further.")
    fitted_on = f"{len(deciding)} {config.split} videos of {deciding['group'].nunique()} groups of {source}"
    tried = cross_validated(videos, header, config)
    record = {
        "method": config.calibration,
        "false_alarms": config.false_alarms,
        "missed_fakes": config.missed_fakes,
        "groups": sorted(group_marks(deciding["group"])),
        "cross_validated": asdict(tried[0]) if tried else None,
        "footage": f"{len(deciding)} videos of {deciding['group'].nunique()} people or pieces of footage",
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
    before = worth(videos, config.bins)
    return Calibration(
        path=str(target),
        method=config.calibration,
        fitted_on=fitted_on,
        false_alarms=config.false_alarms,
        missed_fakes=config.missed_fakes,
        slope=new.slope,
        intercept=new.intercept,
        real_below=new.real_below,
        fake_above=new.fake_above,
        before=before,
        fitted=worth(rejudged(videos, new), config.bins),
        cross_validated=tried[0] if tried else None,
        folds=tried[1] if tried else 0,
        note=_doubt(before, tried[0] if tried else None),
    )


def _doubt(before: Probabilities, tried: Probabilities | None) -> str:
    """What speaks against a new calibration."""
    if tried is None:
        return "There are too few groups of each label to try the new calibration on others than it was fitted on."
    if tried.log_loss is not None and before.log_loss is not None and tried.log_loss >= before.log_loss:
        return (
            "On groups they weren't fitted on, calibrations like the new one have no lower log loss than the old one: "
            "there may be too few videos to fit it (or the old one was fitted on these)."
        )
    return ""


def fitted_header(header: Header, videos: pd.DataFrame, config: EvaluateConfig) -> Header:
    """The header with slope, intercept and thresholds from videos that can decide."""
    fake = (Judged.of(videos).fake).astype(np.int64)
    fit = fit_platt if config.calibration == "platt" else fit_temperature
    slope, intercept = fit(videos["logit"].to_numpy(np.float64), fake)
    chances = [probability(logit, slope, intercept) for logit in videos["logit"]]
    real_below, fake_above = real_fake_thresholds(chances, fake, config.false_alarms, config.missed_fakes)
    return replace(header, slope=slope, intercept=intercept, real_below=real_below, fake_above=fake_above)


def cross_validated(videos: pd.DataFrame, header: Header, config: EvaluateConfig) -> tuple[Probabilities, int] | None:
    """What calibrations fitted like this are worth on groups they weren't fitted on.

    Returns:
        That, and the number of folds; None where too few groups have each class.
    """
    scored = videos[videos["p_fake"].notna()]
    deciding = _lasting(scored)
    people = scored[deciding].groupby("label")["group"].nunique()
    folds = min(config.folds, int(people.min()) if len(people) == 2 else 0)
    if folds < 2:
        return None
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=config.seed)
    parts = [videos[videos["p_fake"].isna()]]
    for fit_on, measure_on in splitter.split(scored, scored["label"], scored["group"]):
        known = scored.iloc[fit_on][deciding.iloc[fit_on]]
        if known["label"].nunique() < 2:
            return None
        # Doubted ones aren't fitted on, but have probabilities too.
        parts.append(rejudged(scored.iloc[measure_on], fitted_header(header, known, config)))
    return worth(pd.concat([part for part in parts if len(part)]), config.bins), folds


def rejudged(videos: pd.DataFrame, header: Header) -> pd.DataFrame:
    """The videos with the probabilities and verdicts of another calibration."""
    policy = policy_of(header)
    p, low, high, window = (
        [probability(logit, header.slope, header.intercept) for logit in videos[name]]
        for name in ("logit", "logit_low", "logit_high", "logit_window")
    )
    verdicts = [
        judge(chance, policy, low=least, high=most, window=part)[0].value if lasting else verdict
        for chance, least, most, part, lasting, verdict in zip(
            p, low, high, window, _lasting(videos), videos["verdict"], strict=True
        )
    ]
    return videos.assign(p_fake=p, verdict=verdicts)


def worth(videos: pd.DataFrame, bins: int) -> Probabilities:
    """How good probabilities and verdicts are."""
    judged = Judged.of(videos)
    fake, p = judged.fake[judged.scored], judged.p_fake[judged.scored]
    return Probabilities(
        log_loss=metrics.log_loss(fake, p),
        brier=metrics.brier_score(fake, p),
        ece=metrics.calibration_error(fake, p, bins),
        verdicts=verdict_table(judged),
    )


def _aucs(videos: pd.DataFrame, config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    """Video AUC of all fakes, and of each method against its own originals where these are there."""
    scored = videos[videos["logit"].notna()]
    fakes = scored[scored["label"] == FAKE]
    found: dict[str, dict[str, Any]] = {}
    for name, part in [("all", fakes), *((str(method), part) for method, part in fakes.groupby("method"))]:
        reals, against = (scored[scored["label"] == REAL], "all reals") if name == "all" else counterparts(scored, part)
        both = pd.concat([reals, part])
        area = auc_estimate(Judged.of(both), rounds=config.rounds, seed=config.seed)
        interval = None if area.low is None or area.high is None else [area.low, area.high]
        found[name] = {"videos": len(part), "against": against, "auc": area.value, "interval": interval}
    return found


def _lasting(videos: pd.DataFrame) -> pd.Series[bool]:
    """Videos whose verdict depends on the thresholds."""
    by_score = [Reason.BETWEEN_THRESHOLDS, Reason.FRAMES_DISAGREE, Reason.PART_OF_CLIP]
    return videos["reason"].isin(["", *(reason.value for reason in by_score)])


#: In a checkpoint's ``training``, and in that of the checkpoint it went on from: the marks of its groups.
TRAINED_ON = "groups"


def fitted_groups(header: Header, groups: Iterable[str]) -> int:
    """On how many of these groups, going by their names, a checkpoint's calibration was fitted."""
    return len(group_marks(groups) & _marks_in(header.metrics.get(RECORD)))


def trained_groups(header: Header, groups: Iterable[str]) -> int:
    """On how many of these groups, going by their names, a checkpoint, its start or its teacher was trained.

    Empty for a checkpoint that doesn't record it: those of other programs, and older ones.
    """
    return len(group_marks(groups) & _trained_on(header.training))


def _trained_on(training: object) -> set[str]:
    if not isinstance(training, dict):
        return set()
    known = _marks_in(training)
    for before in ("start", "teacher"):
        if isinstance(earlier := training.get(before), dict):
            known |= _trained_on(earlier.get("training"))
    return known


def group_marks(groups: Iterable[str]) -> set[str]:
    """Short marks of groups' names: a checkpoint shouldn't list people."""
    names = set(groups)
    return {hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4).hexdigest() for name in names}


def _marks_in(record: object) -> set[str]:
    marks = record.get(TRAINED_ON) if isinstance(record, dict) else None
    return {mark for mark in marks if isinstance(mark, str)} if isinstance(marks, list) else set()
