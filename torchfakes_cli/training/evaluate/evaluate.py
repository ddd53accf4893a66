"""Evaluation: how good detectors are on crops or corpora whose labels are known, and how far that can be trusted."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import sklearn
import torch
from numpy.typing import NDArray

from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.detector.registry import find_checkpoint, shipped_checkpoint
from torchfakes_cli.errors import DataError, UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.files import sha256_of
from torchfakes_cli.training.config import EvaluateConfig, PrepareConfig
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.crops.manifest import SETTINGS_NAME, read_manifest, recorded_margin
from torchfakes_cli.training.crops.prepare import prepare_corpus
from torchfakes_cli.training.evaluate.calibrate import calibrate, check_target
from torchfakes_cli.training.evaluate.figures import Judged, compare_rules, figures, measure_damage, slice_videos
from torchfakes_cli.training.evaluate.findings import FORMAT, SCHEMA, Damage, Evaluation, Model, Result, Source
from torchfakes_cli.training.evaluate.perturb import chosen_perturbations
from torchfakes_cli.training.evaluate.report import (
    CROPS,
    DOCUMENT,
    REPORT,
    Tables,
    check_out,
    make_out,
    notes_on,
    write_report,
)
from torchfakes_cli.training.evaluate.scores import (
    CropScores,
    Logits,
    judge_crops,
    judge_videos,
    moving_pictures,
    score_conditions,
    thinned,
    with_compression,
)
from torchfakes_cli.version import __version__

#: Columns of a manifest, where it has them, that mark faces which a scan would not take for faces.
UNSEEN = ("small", "doubtful")
#: Called with what is being done, how much of it is done, and how much there is to do if known.
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class EvaluateSummary:
    """How an evaluation ended.

    Attributes:
        out: folder of everything that was written.
        report: path of the Markdown report.
        document: path of ``report.json``.
        evaluation: all results, as written to ``report.json``.
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
    """Measure detectors on folders of crops, or on corpora, whose faces are cut out first.

    Everything that was found is written to ``config.out``: ``report.md`` to read, ``report.json`` for programs, plots,
    and ``scores.csv`` (a row a video) and ``frames.csv`` (a row a crop) so that others can compute what they like.

    Args:
        inputs: folders that ``prepare`` wrote, or corpora that it could read.
        config: how.
        progress: called with the progress.
        command: the command line to state in the report.

    Raises:
        DataError: an input can't be measured on.
        ModelError: a detector can't be loaded, or its scores are no numbers.
        OutputError: the output folder holds something else, or can't be written.
        UsageError: there is no such damage or device, or a calibration is asked for on several inputs.
    """
    config = config or EvaluateConfig()
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    return _Evaluation([Path(path) for path in paths], config, progress or (lambda *_: None), command).run()


@dataclass(frozen=True, slots=True)
class _Input:
    """A set of crops to measure on."""

    name: str
    path: Path
    folder: Path
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Crops:
    """The crops of one set that are scored, and the blurry ones, which count as seen."""

    scored: pd.DataFrame
    blurry: pd.DataFrame
    to_damage: NDArray[np.bool_]


class _Evaluation:
    """One evaluation: its detectors, its inputs and what becomes of them."""

    def __init__(self, paths: Sequence[Path], config: EvaluateConfig, progress: Progress, command: str) -> None:
        self.config, self.progress, self.command = config, progress, command
        self.started = time.monotonic()
        self.out = Path(config.out)
        self.perturbations = chosen_perturbations(config.robustness, config.levels)
        if not paths:
            raise UsageError("nothing to measure on", advice="Give a folder of crops or a corpus.")
        for path in paths:
            if not path.is_dir():
                advice = "Give a folder that 'torchfakes prepare' wrote, or a corpus."
                raise DataError("is not a folder", path=path, advice=advice)
        check_out(self.out, force=config.force)
        if config.calibrate is not None:
            if len(paths) > 1:
                raise UsageError("a calibration is fitted on one set of crops", advice="Give a single folder.")
            check_target(Path(config.calibrate), force=config.force)
        self.checkpoints = [find_checkpoint(model) for model in config.models] or [shipped_checkpoint()]
        self.detectors = [load_detector(path, config.device) for path in self.checkpoints]
        self.models = self._models()
        self.paths = paths

    def run(self) -> EvaluateSummary:
        """Measure every detector on every input, and write the report."""
        sources, results, tables = [], [], []
        calibration = None
        inputs = self._inputs()
        make_out(self.out)
        for given in inputs:
            crops, source = self._crops(given)
            scores = self._scores(given, crops)
            lost = scores.unreadable
            source = replace(
                source, crops=source.crops - len(lost), unreadable=len(lost), first_unreadable=lost[0] if lost else ""
            )
            sources.append(source)
            for number, model in enumerate(self.models):
                result, table = self._result(given, source, number, model, crops, scores)
                results.append(result)
                tables.append(table)
            if self.config.calibrate is not None:
                calibration = calibrate(self.checkpoints[0], tables[-1].videos, given.name, self.config)
        evaluation = Evaluation(
            format=FORMAT,
            schema=SCHEMA,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=self.command,
            versions=_versions(),
            settings=asdict(self.config),
            models=tuple(self.models),
            sources=tuple(sources),
            results=tuple(results),
            calibration=calibration,
            elapsed_s=round(time.monotonic() - self.started, 1),
        )
        self.progress("writing the report", 0, None)
        written = write_report(self.out, evaluation, tables)
        return EvaluateSummary(self.out, self.out / REPORT, self.out / DOCUMENT, written)

    def _models(self) -> list[Model]:
        names = [detector.name for detector in self.detectors]
        if len(set(names)) < len(names):
            names = [f"{name} ({path.stem})" for name, path in zip(names, self.checkpoints, strict=True)]
        names = _unique(names)
        given = self.config.models or ("",)
        found = []
        for name, path, checkpoint, detector in zip(names, given, self.checkpoints, self.detectors, strict=True):
            header = detector.header
            found.append(
                Model(
                    name=name,
                    path=path,
                    sha256=sha256_of(checkpoint),
                    input_size=header.input_size,
                    margin=header.margin,
                    slope=header.slope,
                    intercept=header.intercept,
                    real_below=header.real_below,
                    fake_above=header.fake_above,
                    calibrated_on=header.calibrated_on,
                )
            )
        return found

    def _inputs(self) -> list[_Input]:
        """Every input as a folder of crops; extract those of corpora, or continue an interrupted extraction."""
        found = []
        names = _unique([path.resolve().name or "crops" for path in self.paths])
        for name, path in zip(names, self.paths, strict=True):
            given = _Input(name, path, path) if (path / SETTINGS_NAME).is_file() else self._cut(name, path)
            self._check_margin(given.folder)
            found.append(given)
        return found

    def _cut(self, name: str, corpus: Path) -> _Input:
        folder = self.out / CROPS / slug(name)
        config = PrepareConfig(
            out=str(folder),
            frames_per_video=self.config.frames_per_video,
            faces=FaceConfig(margin=self.detectors[0].margin),
            jobs=self.config.jobs,
        )
        try:
            summary = prepare_corpus(
                corpus, config, lambda done, wanted: self.progress(f"cutting {name}", done, wanted)
            )
        except DataError as error:
            if error.path != str(folder):
                raise
            # The --force of an evaluation must not delete crops that took hours to extract.
            raise DataError(error.cause, path=folder, advice="Delete it, or choose another --out.") from error
        note = ""
        if summary.skipped:
            note = (
                f"{len(summary.skipped)} files of the corpus gave no crops and are not counted: see {summary.report}."
            )
        return _Input(name, corpus, folder, note)

    def _check_margin(self, folder: Path) -> None:
        margin = recorded_margin(folder)
        for model in self.models:
            if not math.isclose(model.margin, margin):
                cause = f"its crops have the margin {margin:g}, and {model.name} was trained with {model.margin:g}"
                raise DataError(cause, path=folder, advice=f"Run 'torchfakes prepare' with --margin {model.margin:g}.")

    def _crops(self, given: _Input) -> tuple[_Crops, Source]:
        """What is to be scored of an input."""
        table = with_compression(read_manifest(given.folder))
        part = table if self.config.split == "all" else table[table["split"] == self.config.split]
        if part.empty:
            found = ", ".join(f"{count} {split}" for split, count in table["split"].value_counts().items())
            cause = f"holds no crops of the split {self.config.split}"
            raise DataError(cause, path=given.folder, advice=f"Choose another --split; found are: {found or 'none'}.")
        seen = part[~part[[flaw for flaw in UNSEEN if flaw in part]].eq(True).any(axis=1)]
        moving = moving_pictures(seen)
        is_blurry = moving["blurry"].astype(bool)
        sharp = moving[~is_blurry]
        chosen = thinned(sharp, self.config.frames_per_video)
        to_damage = chosen.index.isin(thinned(chosen, self.config.robustness_frames).index)
        source = Source(
            name=given.name,
            path=str(given.path),
            crops_folder=str(given.folder),
            split=self.config.split,
            crops=len(chosen),
            blurry=int(is_blurry.sum()),
            unseen=len(part) - len(seen),
            stills=len(seen) - len(moving),
            surplus=len(sharp) - len(chosen),
            unreadable=0,
        )
        return _Crops(chosen, moving[is_blurry], to_damage), source

    def _scores(self, given: _Input, crops: _Crops) -> CropScores:
        return score_conditions(
            self.detectors,
            crops.scored,
            given.folder,
            self.perturbations,
            crops.to_damage,
            self.config.seed,
            lambda done, wanted: self.progress(f"scoring {given.name}", done, wanted),
        )

    def _result(
        self, given: _Input, source: Source, number: int, model: Model, crops: _Crops, scores: CropScores
    ) -> tuple[Result, Tables]:
        """Everything about one detector on one input, and the tables behind it."""
        config, header = self.config, self.detectors[number].header
        rows = _with_scores(crops, scores.undamaged, number)
        videos, frames = judge_videos(rows, header), judge_crops(rows, header)
        self.progress(f"measuring on {given.name}", 0, None)
        frame, video = (
            figures(Judged.of(table), rounds=config.rounds, bins=config.bins, seed=config.seed)
            for table in (frames, videos)
        )
        slices = slice_videos(videos, rounds=config.rounds, seed=config.seed)
        notes = notes_on(source, header, videos, damaged=bool(self.perturbations))
        result = Result(
            model=model.name,
            source=source.name,
            frame=frame,
            video=video,
            rules=compare_rules(rows, header, rounds=config.rounds, seed=config.seed),
            slices=slices,
            robustness=self._robustness(number, crops, scores) if self.perturbations else (),
            notes=(*notes, given.note) if given.note else notes,
            plots=(),
        )
        return result, Tables(videos, frames)

    def _robustness(self, number: int, crops: _Crops, scores: CropScores) -> tuple[Damage, ...]:
        header = self.detectors[number].header
        whole = _with_scores(crops, scores.undamaged, number, only=crops.to_damage)
        before = judge_videos(whole, header)
        found = [measure_damage(None, before, before, rounds=self.config.rounds, seed=self.config.seed)]
        for perturbation in self.perturbations:
            after = judge_videos(_with_scores(crops, scores.damaged[perturbation], number), header)
            found.append(measure_damage(perturbation, before, after, rounds=self.config.rounds, seed=self.config.seed))
        return tuple(found)


def _with_scores(crops: _Crops, logits: Logits, number: int, only: NDArray[np.bool_] | None = None) -> pd.DataFrame:
    """The crops with a detector's scores, and the blurry ones without; crops that couldn't be read are left out."""
    scored = crops.scored.assign(logit=logits[number].astype(np.float64))
    if only is not None:
        scored = scored[only]
    scored = scored[scored["logit"].notna()]
    return pd.concat([scored, crops.blurry.assign(logit=math.nan)]) if len(crops.blurry) else scored


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that come again."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in found:
            candidate, number = f"{name}-{number}", number + 1
        found.append(candidate)
    return found


def _versions() -> dict[str, str]:
    return {
        "torchfakes": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
