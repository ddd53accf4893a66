"""Files of an evaluation, each written atomically; report.json comes first, because it marks the others as ours.

::

    report.md      for people
    report.json    for programs; its schema is torchfakes_cli.training.evaluate.findings
    scores.csv     one row per video, detector and set of crops
    frames.csv     one row per crop, detector and set of crops
    *.png          plots
    crops/         faces cut out of corpora; another run continues from there
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import write_atomically
from torchfakes_cli.report.csv import text_cell
from torchfakes_cli.report.formatting import escape_undecodable
from torchfakes_cli.training.corpora.base import FAKE, REAL
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.crops.report import markdown_cell, markdown_table
from torchfakes_cli.training.evaluate.calibrate import fitted_groups, trained_groups
from torchfakes_cli.training.evaluate.findings import (
    FORMAT,
    Calibration,
    Counts,
    Damage,
    Estimate,
    Evaluation,
    Result,
    Source,
)
from torchfakes_cli.training.evaluate.metrics import MIN_GROUPS
from torchfakes_cli.training.evaluate.perturb import MEANING, Kind
from torchfakes_cli.training.evaluate.plots import PLOTS, draw_plots

REPORT, DOCUMENT, VIDEOS, FRAMES, CROPS = "report.md", "report.json", "scores.csv", "frames.csv", "crops"
#: A set with fewer videos of a label, or fewer groups, is called small.
FEW_VIDEOS, FEW_GROUPS = 50, 30
_VIDEO_COLUMNS = [
    *("model", "source", "video", "label", "method", "group", "original", "split", "compression"),
    *("faces", "faces_scored", "face_size", "sharpness", "logit", "p_fake", "verdict", "reason"),
]
_FRAME_COLUMNS = [
    *("model", "source", "crop", "video", "label", "method", "group", "split", "compression"),
    *("time_s", "frame", "face", "face_size", "sharpness", "logit", "p_fake", "verdict"),
]
_ORDER = ("real", "inconclusive", "fake")
_FIGURES = {
    "AUC": "auc",
    "equal error rate": "eer",
    "average precision": "average_precision",
    "accuracy at 0.5": "accuracy",
    "balanced accuracy at 0.5": "balanced_accuracy",
    "log loss (0.693 for always 0.5)": "log_loss",
    "Brier score (0.25 for always 0.5)": "brier",
    "calibration error (ECE)": "ece",
    "coverage: firm verdicts": "coverage",
    "right among the firm verdicts": "selective_accuracy",
}
_OF_SPLITS = {
    "train": "These are training groups: the detector may know them by heart, and every figure is too good.",
    "all": "Training groups may be among these: figures are too good if the detector was trained on this corpus.",
    "val": "Training chooses its best epoch and fits its calibration on validation groups: figures on the validation "
    "split of the detector's own training are somewhat too good.",
}


def make_out(out: Path, *, force: bool) -> None:
    """Make the output folder before the work begins.

    Raises:
        OutputError: the folder can't be made, or holds files of other origin that would be replaced without ``force``.
    """
    taken = [name for name in (REPORT, DOCUMENT, VIDEOS, FRAMES, *PLOTS) if (out / name).exists()]
    if taken and not force and _earlier(out) is None:
        cause = f"holds other files of these names: {', '.join(taken)}"
        raise OutputError(cause, path=out, advice="Choose another --output, or replace them with --force.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = f"can't be made ({error.strerror or error})"
        raise OutputError(cause, path=out, advice="Choose another --output.") from error


def write_report(out: Path, evaluation: Evaluation, tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> Evaluation:
    """Draw the plots of each result and write everything; return the evaluation with the names of its plots.

    The tables are those that each result was computed from, by ``judge_videos`` and ``judge_crops``.
    """
    old_plots = {name for result in (_earlier(out) or {}).get("results", []) for name in result["plots"]}
    models = {model.name: model for model in evaluation.models}
    results = []
    pictures: dict[str, bytes] = {}
    for result, (videos, frames) in zip(evaluation.results, tables, strict=True):
        stem = f"{slug(f'{result.model} on {result.source}')}-" if len(tables) > 1 else ""
        plots = draw_plots(result, models[result.model], videos, frames)
        results.append(replace(result, plots=tuple(f"{stem}{name}" for name in plots)))
        pictures |= {f"{stem}{name}": picture for name, picture in plots.items()}
    evaluation = replace(evaluation, results=tuple(results))
    document = json.dumps(_plain(asdict(evaluation)), indent=2, allow_nan=False) + "\n"
    write_atomically(out / DOCUMENT, document.encode())
    # An earlier evaluation's plots would show other results than the report.
    for name in old_plots - set(pictures):
        if name.endswith(".png"):
            (out / Path(name).name).unlink(missing_ok=True)
    for name, picture in pictures.items():
        write_atomically(out / name, picture)
    write_atomically(out / VIDEOS, _csv(evaluation, [videos for videos, _ in tables], _VIDEO_COLUMNS))
    write_atomically(out / FRAMES, _csv(evaluation, [frames for _, frames in tables], _FRAME_COLUMNS))
    write_atomically(out / REPORT, escape_undecodable(_markdown(evaluation)).encode())
    return evaluation


def _plain(value: Any) -> Any:
    """Return a value as JSON: six decimals, null for NaN."""
    if isinstance(value, float):
        return round(value, 6) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _csv(evaluation: Evaluation, tables: Sequence[pd.DataFrame], columns: list[str]) -> bytes:
    """Join the rows of all results behind the names of the detector and the set of crops."""
    parts = [
        # A video's own column ``source`` names its original.
        table.rename(columns={"source": "original"}).assign(model=result.model, source=result.source)[columns]
        for result, table in zip(evaluation.results, tables, strict=True)
    ]
    whole = pd.concat(parts, ignore_index=True)
    for name in whole.columns:
        if not pd.api.types.is_numeric_dtype(whole[name]):
            whole[name] = [text_cell(str(value)) for value in whole[name]]
    return whole.to_csv(index=False, lineterminator="\n", float_format="%.7g").encode()


def _earlier(out: Path) -> dict[str, Any] | None:
    """Return the document of an earlier evaluation; None if there is none."""
    try:
        found = json.loads((out / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _markdown(evaluation: Evaluation) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    names = [model.name for model in evaluation.models]
    aucs = {(result.source, result.model): result.video.auc for result in evaluation.results}
    lines = [
        "# Evaluation",
        "",
        *(["```", evaluation.command, "```", ""] if evaluation.command else []),
        f"Made {evaluation.created} in {evaluation.elapsed_s:.0f} s with {versions}.",
        "",
        "## AUC by video",
        "",
        *_table(
            ["corpus", *names],
            [[source.name, *(aucs[source.name, name] for name in names)] for source in evaluation.sources],
        ),
        "In brackets: 95 % bootstrap intervals, drawing whole groups (people or pieces of footage); none where fewer "
        f"than {MIN_GROUPS} groups have a label.",
        "",
    ]
    for result in evaluation.results:
        lines += _result(evaluation, result)
    if evaluation.calibration:
        lines += _calibration(evaluation.calibration)
    lines += [
        "## How it was computed",
        "",
        "- By video: the verdict rule of a scan (trimmed mean of a track's logits, the most suspicious lasting track "
        "decides) on the crops of the set; by crop: each by itself, with the thresholds for videos. scores.csv and "
        "frames.csv hold every score.",
        "- AUC, equal error rate and average precision are of the logits and need no threshold; accuracy takes p_fake "
        "0.5. Coverage and the verdicts use the detector's thresholds.",
        "- Log loss, Brier score and ECE weigh real and fake equally, as the calibration does: it assumes an even "
        f"prior. The ECE has {evaluation.settings['bins']} equally wide bins. In a small set, it is above 0 by chance "
        "alone.",
        f"- Settings: `{json.dumps(evaluation.settings, sort_keys=True)}`",
        *(
            f"- Detector {markdown_cell(model.name)}: SHA-256 {model.sha256}, coarse weight {model.coarse_weight:g}"
            for model in evaluation.models
        ),
        "- A low score is no proof of authenticity. The figures hold for footage like this, not for other generators, "
        "compressions or people.",
    ]
    return "\n".join(lines) + "\n"


def estimate_text(estimate: Estimate) -> str:
    """Format a figure with its interval.

    Example:
        >>> estimate_text(Estimate(0.5, 0.25, 0.75))
        '0.500 (0.250–0.750)'
    """
    interval = "" if estimate.low is None else f" ({estimate.low:.3f}–{estimate.high:.3f})"
    return "–" if estimate.value is None else f"{estimate.value:.3f}{interval}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table of texts, counts, figures and estimates."""

    def cell(value: object) -> str:
        if isinstance(value, Estimate):
            return estimate_text(value)
        return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    return markdown_table(heads, [[cell(value) for value in row] for row in rows])


def _result(evaluation: Evaluation, result: Result) -> list[str]:
    model = next(model for model in evaluation.models if model.name == result.model)
    source = next(source for source in evaluation.sources if source.name == result.source)
    video, frame = result.video, result.frame
    whole = "every split" if source.split == "all" else f"the split {source.split}"
    lines = [
        f"## {markdown_cell(result.model)} on {markdown_cell(result.source)}",
        "",
        f"Scored: {video.real} real and {video.fake} fake videos of {video.groups} groups, {source.crops} crops, from "
        f"{whole} of `{source.path}`. Left out: {source.blurry} blurry crops, {source.unseen} of faces too small or "
        f"doubtful for a scan, {source.surplus} beyond the limit per video.",
        "",
        *(f"- {markdown_cell(note)}" for note in result.notes),
        "",
        *_table(
            ["", "by video", "by crop"],
            [[words, getattr(video, name), getattr(frame, name)] for words, name in _FIGURES.items()],
        ),
        *([f"Some figures can't be computed: {video.missing}.", ""] if video.missing else []),
        "### Verdicts",
        "",
        *_verdicts({"videos": video.verdicts, "crops": frame.verdicts}),
        f"Real below {model.real_below:.3f}, fake from {model.fake_above:.3f}; calibration and thresholds fitted on: "
        f"{markdown_cell(model.calibrated_on) or 'nothing'}.",
        "",
    ]
    if altered := result.altered:
        lines += [
            f"The altered person is known in {altered.videos} fake videos; {altered.with_others} of them show other "
            "people, whose faces are scored in the original of the same footage.",
            "",
            *_table(
                ["these fake videos", "called fake", "of these with the altered person flagged"],
                [[altered.videos, altered.called_fake, altered.person_flagged]],
            ),
        ]
    lines += [f"![{name}]({name})\n" for name in result.plots]
    lines += ["### Rules from faces to a person's score", ""]
    lines += _table(["a person's score is", "AUC by video"], [[rule.name, rule.auc] for rule in result.rules])
    for by, slices in groupby(result.slices, key=lambda part: part.by):
        heads = [by, "fake videos", "real videos", "AUC", *(f"fakes called {verdict}" for verdict in _ORDER)]
        rows = [
            [
                *(part.name, part.fake, f"{part.real} ({part.against})"),
                f"– ({part.missing})" if part.missing else part.auc,
                *(part.verdicts[FAKE][verdict] for verdict in _ORDER),
            ]
            for part in slices
        ]
        lines += [f"### By {by}", "", *_table(heads, rows)]
    return lines + (_robustness(result.robustness) if result.robustness else [])


def _verdicts(counts: Mapping[str, Counts]) -> list[str]:
    rows = [
        [f"{label} {name}", *(of_label[verdict] for verdict in _ORDER)]
        for name, verdicts in counts.items()
        for label, of_label in verdicts.items()
    ]
    return _table(["", *(f"called {verdict}" for verdict in _ORDER)], rows)


def _robustness(damages: Sequence[Damage]) -> list[str]:
    clean, *rest = damages
    rows = [
        [
            *(damage.kind, f"{damage.level}: {damage.value:g}", damage.auc, damage.correct),
            *(damage.verdicts[REAL]["fake"], damage.verdicts[FAKE]["real"]),
            *(None if share is None else f"{share:.0%}" for share in (damage.flipped, damage.withdrawn)),
        ]
        for damage in rest
    ]
    heads = ["damage", "level: value", "AUC by video", "right", "reals called fake", "fakes called real"]
    return [
        "### Robustness",
        "",
        f"The same crops undamaged: AUC {estimate_text(clean.auc)}, {clean.correct} right verdicts, "
        f"{clean.verdicts[REAL]['fake']} reals called fake, {clean.verdicts[FAKE]['real']} fakes called real. "
        "*Flipped* is the share of those right verdicts that became the opposite, *withdrawn* the share that became "
        "inconclusive.",
        "",
        *_table([*heads, "flipped", "withdrawn"], rows),
        "Values: " + "; ".join(f"{kind}: {MEANING[Kind(kind)]}" for kind in dict.fromkeys(d.kind for d in rest)) + ".",
        "",
    ]


def _calibration(calibration: Calibration) -> list[str]:
    tried = {
        "before": calibration.before,
        f"new, {calibration.folds}-fold cross-validated by group": calibration.cross_validated,
        "new, on the videos it was fitted on (too good)": calibration.fitted,
    }
    known = {name: part for name, part in tried.items() if part}
    return [
        "## New calibration",
        "",
        f"`{calibration.path}`: {calibration.method}, fitted on {markdown_cell(calibration.fitted_on)}. p_fake = "
        f"1 / (1 + exp(−({calibration.slope:.4g} · logit {calibration.intercept:+.4g}))); real below "
        f"{calibration.real_below:.3f}, fake from {calibration.fake_above:.3f}, chosen so that of these videos at most "
        f"{calibration.false_alarms:.0%} of the reals are called fake and {calibration.missed_fakes:.0%} of the fakes "
        "real. No figure above uses it.",
        "",
        *_table(
            ["calibration", "log loss", "Brier score", "ECE"],
            [[name, part.log_loss, part.brier, part.ece] for name, part in known.items()],
        ),
        *_verdicts({f"videos, {name}": part.verdicts for name, part in known.items()}),
        *([calibration.note, ""] if calibration.note else []),
    ]


def notes_on(
    source: Source, header: Header, videos: pd.DataFrame, *, damaged: bool, known: int | None = None
) -> tuple[str, ...]:
    """Return the caveats about a detector on a set of crops.

    ``known`` is the number of the crops that the detector was trained on, compared by pictures; None if its checkpoint
    records none, so that the names of the groups are compared. ``damaged`` says whether robustness was measured.
    """
    groups = videos["group"].nunique()
    is_new = source.split != "train"
    trained = trained_groups(header, videos["group"]) if is_new and known is None else 0
    fitted = fitted_groups(header, videos["group"])
    fakes = int((videos["label"] == FAKE).sum())
    reals = len(videos) - fakes
    unscored = int(videos["logit"].isna().sum())
    notes = {
        _OF_SPLITS.get(source.split, ""): True,
        f"{header.name} was trained on groups of the same names as {trained} of these {groups}: every figure is too "
        "good.": trained,
        f"{header.name} was trained on at least {known} of these {source.crops} crops: every figure is too good.": (
            is_new and known
        ),
        f"Calibration and thresholds of {header.name} were fitted on groups of the same names as {fitted} of these "
        f"{groups}: log loss, Brier score, ECE and verdicts are too good.": fitted,
        f"{header.name} is not calibrated: probabilities, thresholds and coverage mean little.": (
            not header.calibrated_on
        ),
        f"The set is small ({reals} real and {fakes} fake videos of {groups} groups): differences within the intervals "
        "mean nothing, and the intervals of so few groups are themselves too narrow.": (
            min(fakes, reals) < FEW_VIDEOS or groups < FEW_GROUPS
        ),
        f"{source.unreadable} crops could not be read, such as {source.first_unreadable}": source.unreadable,
        f"{source.stills} crops of stills were left out: they would separate kinds of pictures, not fakes.": (
            source.stills
        ),
        f"Videos without a sharp face: {unscored}. Their verdict is inconclusive, and they have no score.": unscored,
        "Damaged crops are scored however blurry they are; a scan would leave the blurriest out. H.264 gets the "
        "sampled frames as one clip: they lie further apart than in a video, so that it predicts less well.": damaged,
    }
    return tuple(note for note, holds in notes.items() if holds and note)
