"""Results of an evaluation. ``report.json`` is these records written out field by field, so this is its schema.

Shares, probabilities and AUCs lie between 0 and 1. An undefined figure is null, with the reason in words beside it.
Fields may be added; ``schema`` goes up when one changes its meaning or goes away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FORMAT = "torchfakes evaluation"
SCHEMA = 1

#: Number of real and fake videos by verdict: ``{"real": {"real": 7, "fake": 1, "inconclusive": 4}, "fake": …}``.
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % bootstrap interval over groups; no interval if fewer than ten groups have a label."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability plot; means and shares weigh real and fake equally and are None if the bin is empty."""

    low: float
    high: float
    count: int
    mean_p: float | None
    share_fake: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Quality of a detector on a set of crops or of videos.

    Log loss, Brier score and ECE weigh real and fake equally, as the calibration does.
    """

    real: int  # reals with a score
    fake: int  # fakes with a score
    unscored: int  # without a score, since all their faces are blurry; the verdict is inconclusive
    groups: int  # people or pieces of footage
    auc: Estimate  # area under the ROC curve of the logits
    eer: Estimate  # equal error rate
    average_precision: Estimate  # of fake; depends on the share of fakes
    accuracy: Estimate  # at p_fake 0.5, independent of the thresholds
    balanced_accuracy: Estimate  # mean of the accuracies on real and on fake
    log_loss: Estimate  # of p_fake; 0.693 for always 0.5
    brier: Estimate  # mean squared error of p_fake; 0.25 for always 0.5
    ece: Estimate  # expected calibration error over the bins of the reliability plot
    coverage: Estimate  # share of firm verdicts, among all with and without a score
    selective_accuracy: Estimate  # share of the firm verdicts that are right
    verdicts: Counts  # at the detector's thresholds
    reliability: tuple[Bin, ...]  # equally wide bins; empty if a class is missing
    missing: str  # why figures are null; empty if none is


@dataclass(frozen=True, slots=True)
class Altered:
    """Fake videos whose altered person is known from the original of the same footage.

    The other people of such a video count as well. Their scores are those of the original, because ``prepare`` leaves
    faces that a fake didn't change out of its crops.
    """

    videos: int
    with_others: int  # videos that show other people, too
    called_fake: int
    person_flagged: int  # of those called fake, the altered person is above the threshold; else it is somebody else


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the videos."""

    by: str  # method, compression, face size or sharpness
    name: str
    real: int
    fake: int
    against: str  # which real videos the fakes are compared with
    auc: Estimate
    verdicts: Counts
    missing: str  # why the AUC is null; empty if it isn't


@dataclass(frozen=True, slots=True)
class Rule:
    """Video AUC with one rule that turns the scores of a person's faces into one score."""

    name: str
    auc: Estimate


@dataclass(frozen=True, slots=True)
class Damage:
    """Videos from damaged crops."""

    kind: str  # empty for the same crops undamaged
    level: int  # 0 (none) to 5
    value: float | None  # of the level, such as a CRF
    auc: Estimate
    verdicts: Counts
    correct: int  # right verdicts
    flipped: float | None  # share of the right verdicts on the undamaged crops that became the opposite
    withdrawn: float | None  # share of them that became inconclusive


@dataclass(frozen=True, slots=True)
class Model:
    """A detector, with the values of its checkpoint's header."""

    name: str  # unique in the report
    path: str  # as given; empty for the one that ships
    sha256: str
    input_size: int
    margin: float
    coarse_weight: float  # of the coarse copies' logits
    slope: float
    intercept: float
    real_below: float
    fake_above: float
    calibrated_on: str


@dataclass(frozen=True, slots=True)
class Source:
    """A set of crops, and why others of it were left out."""

    name: str  # unique in the report
    path: str  # as given
    crops_folder: str
    split: str
    crops: int  # scored
    blurry: int  # a scan doesn't score these either
    unseen: int  # too small or doubtful for a scan to find them
    stills: int  # they would separate kinds of pictures, not fakes
    surplus: int  # beyond the limit per video
    unreadable: int
    first_unreadable: str = ""  # with the reason


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Quality of a calibration on videos; the fields are those of ``Figures``."""

    log_loss: float | None
    brier: float | None
    ece: float | None
    verdicts: Counts


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration fitted in this evaluation; no other figure of the report uses it."""

    path: str  # of the new checkpoint
    method: str  # platt or temperature
    fitted_on: str
    false_alarms: float  # largest share of reals that may be called fake
    missed_fakes: float  # largest share of fakes that may be called real
    slope: float
    intercept: float
    real_below: float
    fake_above: float
    before: Probabilities  # the detector's own calibration on these videos
    fitted: Probabilities  # the new one on the videos it was fitted on: too good to be true
    cross_validated: Probabilities | None  # such calibrations on groups that they weren't fitted on
    folds: int  # 0 with too few groups for a cross-validation
    note: str  # what speaks against the new calibration; empty if nothing does


@dataclass(frozen=True, slots=True)
class Result:
    """One detector on one set of crops."""

    model: str
    source: str
    frame: Figures  # each crop by itself, with the thresholds for videos
    video: Figures  # by the verdict rule, as a scan of the same faces
    altered: Altered | None  # None if the altered person is not known of any fake video
    rules: tuple[Rule, ...]  # the verdict rule and others for comparison
    slices: tuple[Slice, ...]
    robustness: tuple[Damage, ...]  # undamaged crops first; empty if not asked for
    notes: tuple[str, ...]  # caveats in plain sentences
    plots: tuple[str, ...]  # files beside the report


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results of an evaluation: each detector on each set of crops, all detectors on one set after the other."""

    format: str
    schema: int
    created: str  # UTC, ISO 8601
    command: str  # empty if called from Python
    versions: dict[str, str]  # of the program, Python and the libraries that decide the figures
    settings: dict[str, Any]  # by their names in EvaluateConfig
    models: tuple[Model, ...]
    sources: tuple[Source, ...]
    results: tuple[Result, ...]
    calibration: Calibration | None
    elapsed_s: float
