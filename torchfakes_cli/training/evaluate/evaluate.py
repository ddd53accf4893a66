"""Evaluation: measure detectors on crops or corpora with known labels, and say how far the figures can be trusted."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import sklearn
import torch
from numpy.typing import NDArray

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector, load_detector
from torchfakes_cli.detector.registry import find_checkpoint, shipped_checkpoint
from torchfakes_cli.errors import DataError, UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.files import sha256_of
from torchfakes_cli.training.config import EvaluateConfig, PrepareConfig
from torchfakes_cli.training.crops import manifest
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.crops.prepare import prepare_corpus
from torchfakes_cli.training.evaluate import scores
from torchfakes_cli.training.evaluate.calibrate import calibrate, check_target, with_coarse_weight
from torchfakes_cli.training.evaluate.findings import FORMAT, SCHEMA, Damage, Evaluation, Model, Result, Source
from torchfakes_cli.training.evaluate.metrics import Floats, figures, measure_damage, slice_videos
from torchfakes_cli.training.evaluate.perturb import Perturbation, chosen_perturbations
from torchfakes_cli.training.evaluate.report import CROPS, DOCUMENT, REPORT, make_out, notes_on, write_report
from torchfakes_cli.version import __version__

#: Columns of a manifest that mark faces which a scan would not find; older manifests lack them.
UNSEEN = ("small", "doubtful")
#: Values of a header that the report repeats.
_OF_HEADER = (
    "input_size",
    "margin",
    "coarse_weight",
    "slope",
    "intercept",
    "real_below",
    "fake_above",
    "calibrated_on",
)
#: Called with a stage of the work, how much of it is done, and how much there is to do if known.
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class EvaluateSummary:
    """Results of an evaluation.

    Attributes:
        out: output folder.
        report: path of the Markdown report.
        document: path of ``report.json``.
        evaluation: all results, as in ``report.json``.
    """

    out: Path
    report: Path
    document: Path
    evaluation: Evaluation


def evaluate_detector(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    config: EvaluateConfig | None = None,
    progress: Progress | None = None,
    *,
    command: str = "",
) -> EvaluateSummary:
    """Measure detectors on folders of crops, or on corpora, whose faces are extracted first.

    The results are written to ``config.out``: ``report.md`` for people, ``report.json`` for programs, plots, and all
    scores by video (``scores.csv``) and by crop (``frames.csv``).

    Args:
        inputs: folders written by ``prepare``, or corpora that it can read.
        config: configuration.
        progress: called with the progress.
        command: command line for the report.

    Raises:
        DataError: an input can't be measured on.
        ModelError: a detector can't be loaded, or its scores are not finite.
        OutputError: the output folder holds files of other origin, or can't be written.
        UsageError: an unknown damage or device, or a calibration on several inputs.
    """
    config, progress = config or EvaluateConfig(), progress or (lambda *_: None)
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]
    started, out = time.monotonic(), Path(config.out)
    perturbations = chosen_perturbations(config.robustness, config.levels)
    if not paths:
        raise UsageError("nothing to measure on", advice="Give a folder of crops or a corpus.")
    for path in paths:
        if not path.is_dir():
            raise DataError("is not a folder", path=path, advice="Give a folder of 'torchfakes prepare', or a corpus.")
    if config.calibrate is not None:
        if len(paths) > 1:
            raise UsageError("a calibration is fitted on one set of crops", advice="Give a single folder.")
        check_target(Path(config.calibrate), force=config.force)
    checkpoints = [find_checkpoint(model) for model in config.models] or [shipped_checkpoint()]
    detectors = [load_detector(path, config.device) for path in checkpoints]
    for detector in detectors:
        detector.header = with_coarse_weight(detector.header, config)
    models = _models(detectors, checkpoints, config)
    make_out(out, force=config.force)
    names = _unique(path.resolve().name or "crops" for path in paths)
    sets = [_crops(name, path, models, config, progress) for name, path in zip(names, paths, strict=True)]
    sources: list[Source] = []
    results: list[Result] = []
    tables: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    calibration = None
    for crops in sets:
        name, folder = crops.source.name, Path(crops.source.crops_folder)
        advance = partial(progress, f"scoring {name}")
        logits, unreadable = scores.score_conditions(
            detectors, crops.chosen, folder, perturbations, crops.to_damage, config.seed, advance
        )
        lost = len(unreadable)
        source = replace(
            crops.source, crops=crops.source.crops - lost, unreadable=lost, first_unreadable=(*unreadable, "")[0]
        )
        sources.append(source)
        progress(f"measuring on {name}", 0, None)
        # Only checkpoints that know their training pictures can tell whether these are among them.
        needed = any(manifest.PICTURES in detector.header.training for detector in detectors)
        marks = [*manifest.picture_marks(folder, crops.chosen["crop"]).values()] if needed else []
        for number, detector in enumerate(detectors):
            of_model = {damage: found[number].astype(np.float64) for damage, found in logits.items()}
            result, table = _result(detector.header, models[number].name, source, crops, of_model, marks, config)
            results.append(result)
            tables.append(table)
        if config.calibrate is not None:
            calibration = calibrate(checkpoints[0], crops.scored(of_model[None]), name, config)
    evaluation = Evaluation(
        format=FORMAT,
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        versions={
            "torchfakes": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        settings=asdict(config),
        models=tuple(models),
        sources=tuple(sources),
        results=tuple(results),
        calibration=calibration,
        elapsed_s=round(time.monotonic() - started, 1),
    )
    progress("writing the report", 0, None)
    return EvaluateSummary(out, out / REPORT, out / DOCUMENT, write_report(out, evaluation, tables))


@dataclass(frozen=True, slots=True)
class _Crops:
    """A set of crops."""

    source: Source  # counts for the report
    chosen: pd.DataFrame  # rows of the crops to score
    to_damage: NDArray[np.bool_]  # which of them to damage
    blurry: pd.DataFrame  # rows of blurry crops, which count as seen
    note: str  # caveat of the extraction

    def scored(self, logits: Floats) -> pd.DataFrame:
        """Return the crops with a score, and the blurry ones without."""
        rows = self.chosen.assign(logit=logits)
        rows = rows[rows["logit"].notna()]
        return pd.concat([rows, self.blurry.assign(logit=math.nan)]) if len(self.blurry) else rows


def _models(detectors: Sequence[Detector], checkpoints: Sequence[Path], config: EvaluateConfig) -> list[Model]:
    names = [detector.name for detector in detectors]
    if len(set(names)) < len(names):
        names = [f"{name} ({path.stem})" for name, path in zip(names, checkpoints, strict=True)]
    return [
        Model(
            name=name,
            path=path,
            sha256=sha256_of(checkpoint),
            **{field: getattr(header, field) for field in _OF_HEADER},
        )
        for name, path, checkpoint, header in zip(
            _unique(names), config.models or ("",), checkpoints, (each.header for each in detectors), strict=True
        )
    ]


def _crops(name: str, path: Path, models: Sequence[Model], config: EvaluateConfig, progress: Progress) -> _Crops:
    """Choose the crops of an input; extract those of a corpus first, or continue an interrupted extraction."""
    folder, note = path, ""
    if not (path / manifest.SETTINGS_NAME).is_file():
        folder = Path(config.out) / CROPS / slug(name)
        faces = FaceConfig(margin=models[0].margin)
        prepare = PrepareConfig(str(folder), config.frames_per_video, faces, jobs=config.jobs)
        try:
            summary = prepare_corpus(path, prepare, partial(progress, f"cutting {name}"))
        except DataError as error:
            if error.path != str(folder):
                raise
            # The --force of an evaluation must not delete crops that took hours to extract.
            raise DataError(error.cause, path=folder, advice="Delete it, or choose another --output.") from error
        if skipped := len(summary.skipped):
            note = f"{skipped} files of the corpus gave no crops and are not counted: see {summary.report}."
    margin = manifest.recorded_settings(folder)["margin"]
    for model in models:
        if not manifest.same_margin(model.margin, margin):
            cause = f"its crops have the margin {margin:g}, and {model.name} was trained with {model.margin:g}"
            raise DataError(cause, path=folder, advice=f"Run 'torchfakes prepare' with --margin {model.margin:g}.")
    table = scores.with_altered(scores.with_compression(scores.with_stills(manifest.read_manifest(folder))))
    part = table if config.split == "all" else table[table["split"] == config.split]
    if part.empty:
        found = ", ".join(f"{count} {split}" for split, count in table["split"].value_counts().items())
        cause = f"holds no crops of the split {config.split}"
        raise DataError(cause, path=folder, advice=f"Choose another --split; found are: {found or 'none'}.")
    seen = part[~part[[flaw for flaw in UNSEEN if flaw in part]].eq(True).any(axis=1)]
    moving = scores.moving_pictures(seen)
    is_blurry = moving["blurry"].astype(bool)
    chosen = scores.thinned(moving[~is_blurry], config.frames_per_video)
    to_damage = chosen.index.isin(scores.thinned(chosen, config.robustness_frames).index)
    source = Source(
        name=name,
        path=str(path),
        crops_folder=str(folder),
        split=config.split,
        crops=len(chosen),
        blurry=int(is_blurry.sum()),
        unseen=len(part) - len(seen),
        stills=len(seen) - len(moving),
        surplus=int((~is_blurry).sum()) - len(chosen),
        unreadable=0,
    )
    return _Crops(source, chosen, to_damage, moving[is_blurry], note)


def _result(
    header: Header,
    model: str,
    source: Source,
    crops: _Crops,
    logits: Mapping[Perturbation | None, Floats],
    marks: Sequence[str],
    config: EvaluateConfig,
) -> tuple[Result, tuple[pd.DataFrame, pd.DataFrame]]:
    """Measure a detector on a set of crops, with the marks of its pictures; return the tables behind the result too."""
    rows = crops.scored(logits[None])
    videos, frames = scores.judge_videos(rows, header), scores.judge_crops(rows, header)
    robustness: list[Damage] = []
    if len(logits) > 1:
        before = scores.judge_videos(crops.scored(np.where(crops.to_damage, logits[None], math.nan)), header)
        for damage, found in logits.items():
            after = before if damage is None else scores.judge_videos(crops.scored(found), header)
            robustness.append(measure_damage(damage, before, after, config))
    known = None
    if manifest.PICTURES in header.training:
        known = manifest.known_pictures(header.training, marks)
    notes = notes_on(source, header, videos, damaged=bool(robustness), known=known)
    result = Result(
        model=model,
        source=source.name,
        frame=figures(frames, config),
        video=figures(videos, config),
        altered=scores.count_altered(rows, header),
        rules=scores.compare_rules(rows, header, config),
        slices=slice_videos(videos, config),
        robustness=tuple(robustness),
        notes=(*notes, crops.note) if crops.note else notes,
        plots=(),
    )
    return result, (videos, frames)


def _unique(names: Iterable[str]) -> list[str]:
    """Return the names, with a number after repeated ones."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in found:
            candidate, number = f"{name}-{number}", number + 1
        found.append(candidate)
    return found
