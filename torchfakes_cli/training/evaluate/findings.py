"""What an evaluation finds. ``report.json`` is these records written out field by field, so this is its schema.

Shares, probabilities and AUCs lie between 0 and 1. Undefined figures are null, with the reason in words beside them.
Fields may be added; ``schema`` goes up when one changes its meaning or goes away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torchfakes_cli.training.evaluate.metrics import Bin

FORMAT = "torchfakes evaluation"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and how far chance may have moved it.

    Attributes:
        value: None where it is undefined.
        low: lower end of the 95 % bootstrap interval over groups; None with the value, or where fewer than ten groups
            have a label: what they show by chance would pass for certainty.
        high: its upper end.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """How right a detector is on a set of crops, or of videos.

    Attributes:
        real: how many have a score.
        fake: how many have a score.
        unscored: how many have none, as all their faces are blurry: inconclusive verdicts without a score.
        groups: people or pieces of footage.
        auc: area under the ROC curve of the logits.
        eer: equal error rate.
        average_precision: of fake; depends on how many fakes there are.
        accuracy: at ``p_fake`` 0.5, independent of the thresholds.
        balanced_accuracy: the mean of that on real and on fake.
        log_loss: of ``p_fake``, real and fake weighing the same in sum, as the calibration has it; 0.693 for 0.5.
        brier: mean squared error of ``p_fake``, with the same weights; 0.25 for always 0.5.
        ece: expected calibration error over the equally wide bins of ``reliability``, with the same weights.
        coverage: share of the verdicts that are firm, those of the unscored included.
        selective_accuracy: share of the firm verdicts that are right.
        verdicts: how many of each label get which verdict at the detector's thresholds.
        reliability: the bins; empty where a class is missing.
        missing: why figures are null; empty where none is.
    """

    real: int
    fake: int
    unscored: int
    groups: int
    auc: Estimate
    eer: Estimate
    average_precision: Estimate
    accuracy: Estimate
    balanced_accuracy: Estimate
    log_loss: Estimate
    brier: Estimate
    ece: Estimate
    coverage: Estimate
    selective_accuracy: Estimate
    verdicts: dict[str, dict[str, int]]
    reliability: tuple[Bin, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """How a detector does on some of the videos.

    Attributes:
        by: ``method``, ``compression``, ``face size`` or ``sharpness``.
        name: which of them.
        real: how many real videos they are compared with.
        fake: how many fake videos.
        against: which reals these are.
        auc: over videos.
        verdicts: how many of each label get which verdict.
        missing: why the AUC is null; empty where it isn't.
    """

    by: str
    name: str
    real: int
    fake: int
    against: str
    auc: Estimate
    verdicts: dict[str, dict[str, int]]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a detector does with one way from the scores of a person's faces to the person's.

    Attributes:
        name: of the way.
        auc: over videos.
    """

    name: str
    auc: Estimate


@dataclass(frozen=True, slots=True)
class Damage:
    """How a detector does on damaged crops.

    Attributes:
        kind: of the damage; empty for the same crops undamaged.
        level: 0 (none) to 5.
        value: of the level, such as a CRF; None for undamaged crops.
        auc: over videos.
        verdicts: how many of each label get which verdict.
        correct: how many videos get the right verdict.
        flipped: of the verdicts that were right on the undamaged crops, the share that became the opposite.
        withdrawn: the share of them that became inconclusive.
    """

    kind: str
    level: int
    value: float | None
    auc: Estimate
    verdicts: dict[str, dict[str, int]]
    correct: int
    flipped: float | None
    withdrawn: float | None


@dataclass(frozen=True, slots=True)
class Model:
    """A detector, as its checkpoint describes itself.

    Attributes:
        name: shown in tables; unique in the report.
        path: as given; empty for the one that ships.
        sha256: of the file.
        input_size: side of the network's input in pixels.
        margin: size of a crop as a multiple of the face's box.
        slope: of the calibration.
        intercept: of the calibration.
        real_below: below this probability a video is called real.
        fake_above: from this probability on it is called fake.
        calibrated_on: what calibration and thresholds were fitted on.
    """

    name: str
    path: str
    sha256: str
    input_size: int
    margin: float
    slope: float
    intercept: float
    real_below: float
    fake_above: float
    calibrated_on: str


@dataclass(frozen=True, slots=True)
class Source:
    """A set of crops that was measured on.

    Attributes:
        name: shown in tables; unique in the report.
        path: as given.
        crops_folder: where the crops lie.
        split: which part of it.
        crops: scored.
        blurry: crops left out as too blurry, as in a scan.
        unseen: crops left out as their face is too small, or too doubtful, for a scan to see it.
        stills: crops left out as they come from stills: they would separate kinds of pictures, not fakes.
        surplus: crops left out by the limit on crops a video.
        unreadable: crops that couldn't be read.
        first_unreadable: the first of them, and why; empty without any.
    """

    name: str
    path: str
    crops_folder: str
    split: str
    crops: int
    blurry: int
    unseen: int
    stills: int
    surplus: int
    unreadable: int
    first_unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What a calibration is worth on videos.

    Attributes:
        log_loss: see ``Figures``.
        brier: see ``Figures``.
        ece: see ``Figures``.
        verdicts: see ``Figures``.
    """

    log_loss: float | None
    brier: float | None
    ece: float | None
    verdicts: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration fitted in this evaluation; no other figure of the report uses it.

    Attributes:
        path: of the checkpoint that holds it.
        method: ``platt`` or ``temperature``.
        fitted_on: the videos, in words.
        false_alarms: the share of reals that may be called fake.
        missed_fakes: the share of fakes that may be called real.
        slope: fitted.
        intercept: fitted.
        real_below: chosen.
        fake_above: chosen.
        before: of the detector's own calibration, on these videos.
        fitted: of the new one on the videos it was fitted on: too good to be true.
        cross_validated: of calibrations fitted in the same way without the groups that they are measured on.
        folds: of that cross-validation; 0 where there are too few groups, and ``cross_validated`` is then None.
        note: what speaks against using it, in a sentence; empty where nothing does.
    """

    path: str
    method: str
    fitted_on: str
    false_alarms: float
    missed_fakes: float
    slope: float
    intercept: float
    real_below: float
    fake_above: float
    before: Probabilities
    fitted: Probabilities
    cross_validated: Probabilities | None
    folds: int
    note: str


@dataclass(frozen=True, slots=True)
class Result:
    """One detector on one set of crops.

    Attributes:
        model: name of the detector.
        source: name of the crops.
        frame: each crop for itself, judged by the thresholds for videos.
        video: by the verdict's rule, as a scan of the same faces would have it.
        rules: the verdict's rule and others, for comparison.
        slices: by method, compression, face size and sharpness, over videos.
        robustness: the undamaged crops first; empty where not asked for.
        notes: what a careful reader should know, in plain sentences.
        plots: files beside the report.
    """

    model: str
    source: str
    frame: Figures
    video: Figures
    rules: tuple[Rule, ...]
    slices: tuple[Slice, ...]
    robustness: tuple[Damage, ...]
    notes: tuple[str, ...]
    plots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes:
        format: always ``torchfakes evaluation``.
        schema: version of these records.
        created: UTC, ISO 8601.
        command: that made it; empty when it was called from Python.
        versions: of the program, of Python and of the libraries that decide the figures.
        settings: every setting, by its name in ``EvaluateConfig``.
        models: the detectors.
        sources: the sets of crops.
        results: each detector on each set, the sets of one detector in turn.
        calibration: where one was asked for.
        elapsed_s: seconds it took.
    """

    format: str
    schema: int
    created: str
    command: str
    versions: dict[str, str]
    settings: dict[str, Any]
    models: tuple[Model, ...]
    sources: tuple[Source, ...]
    results: tuple[Result, ...]
    calibration: Calibration | None
    elapsed_s: float
