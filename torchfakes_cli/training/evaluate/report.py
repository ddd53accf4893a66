"""What an evaluation leaves in its folder.

Each file is whole or not there. report.json is written first, as it tells the files beside it from those of others, and
report.md last.

::

    report.md      to read
    report.json    the same and more for programs; its schema is torchfakes_cli.training.evaluate.findings
    scores.csv     a row a video, detector and set of crops
    frames.csv     one row per crop, in the same way
    *.png          plots
    crops/         faces cut out of corpora; another run continues from there
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import write_atomically
from torchfakes_cli.records import Verdict
from torchfakes_cli.report.csv import escape_undecodable, text_cell
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.evaluate.calibrate import fitted_groups, trained_groups
from torchfakes_cli.training.evaluate.findings import (
    FORMAT,
    Calibration,
    Damage,
    Estimate,
    Evaluation,
    Figures,
    Model,
    Probabilities,
    Result,
    Slice,
    Source,
)
from torchfakes_cli.training.evaluate.metrics import MIN_GROUPS
from torchfakes_cli.training.evaluate.perturb import MEANING, Kind
from torchfakes_cli.training.evaluate.plots import PLOTS, draw_plots

REPORT, DOCUMENT, VIDEOS, FRAMES, CROPS = "report.md", "report.json", "scores.csv", "frames.csv", "crops"
#: Decimals of figures in the document: more than any of them is sure of.
_DIGITS = 6
_VIDEO_COLUMNS = (
    *("model", "source", "video", "label", "method", "group", "original", "split", "compression"),
    *("faces", "faces_scored", "face_size", "sharpness", "logit", "p_fake", "verdict", "reason"),
)
_FRAME_COLUMNS = (
    *("model", "source", "crop", "video", "label", "method", "group", "split", "compression"),
    *("time_s", "frame", "face", "face_size", "sharpness", "logit", "p_fake", "verdict"),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """What a result was computed from.

    Attributes:
        videos: as ``judge_videos`` gives them.
        frames: as ``judge_crops`` gives them.
    """

    videos: pd.DataFrame
    frames: pd.DataFrame


def check_out(out: Path, *, force: bool) -> None:
    """Check that no file of another origin would be replaced.

    Raises:
        OutputError: one does, and ``force`` isn't set.
    """
    names = (REPORT, DOCUMENT, VIDEOS, FRAMES, *PLOTS)
    taken = [name for name in names if (out / name).exists()]
    if taken and not force and _earlier(out) is None:
        cause = f"holds other files of these names: {', '.join(taken)}"
        raise OutputError(cause, path=out, advice="Choose another --out, or replace them with --force.")


def make_out(out: Path) -> None:
    """Make the folder, before the work and not after it.

    Raises:
        OutputError: it can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = f"can't be made ({error.strerror or error})"
        raise OutputError(cause, path=out, advice="Choose another --out.") from error


def write_report(out: Path, evaluation: Evaluation, tables: Sequence[Tables]) -> Evaluation:
    """Draw the plots and write everything.

    Args:
        out: an existing folder.
        evaluation: without plots.
        tables: of each of its results.

    Returns:
        The evaluation with the names of its plots, as it was written.

    Raises:
        OutputError: a file can't be written.
    """
    earlier = _earlier(out) or {}
    results = []
    pictures: dict[str, bytes] = {}
    for result, table in zip(evaluation.results, tables, strict=True):
        stem = f"{slug(f'{result.model} on {result.source}')}-" if len(tables) > 1 else ""
        model = next(model for model in evaluation.models if model.name == result.model)
        plots = draw_plots(result, model, table.videos, table.frames)
        pictures |= {f"{stem}{name}": picture for name, picture in plots.items()}
        results.append(replace(result, plots=tuple(f"{stem}{name}" for name in plots)))
    evaluation = replace(evaluation, results=tuple(results))
    write_atomically(out / DOCUMENT, document(evaluation).encode())
    _drop_plots(out, earlier, set(pictures))
    for name, picture in pictures.items():
        write_atomically(out / name, picture)
    write_atomically(out / VIDEOS, _csv(evaluation, [table.videos for table in tables], _VIDEO_COLUMNS))
    write_atomically(out / FRAMES, _csv(evaluation, [table.frames for table in tables], _FRAME_COLUMNS))
    write_atomically(out / REPORT, escape_undecodable(markdown(evaluation)).encode())
    return evaluation


def document(evaluation: Evaluation) -> str:
    """The evaluation as JSON: the records of ``findings`` field by field, without NaN."""
    return json.dumps(_plain(asdict(evaluation)), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _csv(evaluation: Evaluation, tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> bytes:
    """Rows of all results, with the detector and the set of crops in front."""
    parts = [
        # A video's own column ``source`` names its original.
        table.rename(columns={"source": "original"}).assign(model=result.model, source=result.source)
        for result, table in zip(evaluation.results, tables, strict=True)
    ]
    whole = pd.concat(parts, ignore_index=True)[list(columns)]
    for name in whole.columns:
        if not pd.api.types.is_numeric_dtype(whole[name]):
            whole[name] = [text_cell(str(value)) for value in whole[name]]
    return whole.to_csv(index=False, lineterminator="\n", float_format="%.7g").encode()


def _earlier(out: Path) -> dict[str, Any] | None:
    """The document of an earlier evaluation; None where there is none of ours."""
    try:
        found = json.loads((out / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _drop_plots(out: Path, earlier: Mapping[str, Any], kept: set[str]) -> None:
    """Remove an earlier evaluation's plots, which would show other results than the report."""
    results = earlier.get("results")
    for result in results if isinstance(results, list) else []:
        for name in result.get("plots", []) if isinstance(result, dict) else []:
            if isinstance(name, str) and name not in kept and name.endswith(".png") and Path(name).name == name:
                (out / name).unlink(missing_ok=True)


_ORDER = (Verdict.REAL, Verdict.INCONCLUSIVE, Verdict.FAKE)
_FIGURES = (
    ("AUC", "auc"),
    ("equal error rate", "eer"),
    ("average precision", "average_precision"),
    ("accuracy at 0.5", "accuracy"),
    ("balanced accuracy at 0.5", "balanced_accuracy"),
    ("log loss (0.693 knows nothing)", "log_loss"),
    ("Brier score (0.25 knows nothing)", "brier"),
    ("calibration error (ECE)", "ece"),
    ("coverage: firm verdicts", "coverage"),
    ("right among the firm verdicts", "selective_accuracy"),
)


def markdown(evaluation: Evaluation) -> str:
    """The whole report."""
    lines = ["# Evaluation", ""]
    if evaluation.command:
        lines += ["```", evaluation.command, "```", ""]
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    lines += [f"Made {evaluation.created} in {evaluation.elapsed_s:.0f} s with {versions}.", ""]
    lines += _summary(evaluation)
    for result in evaluation.results:
        model = next(model for model in evaluation.models if model.name == result.model)
        source = next(source for source in evaluation.sources if source.name == result.source)
        lines += _result(result, model, source)
    if evaluation.calibration:
        lines += _calibration(evaluation.calibration)
    lines += _explanations(evaluation)
    return "\n".join(lines) + "\n"


def estimate_text(estimate: Estimate) -> str:
    """A figure with its interval.

    Example:
        >>> estimate_text(Estimate(0.5, 0.25, 0.75))
        '0.500 (0.250–0.750)'
    """
    if estimate.value is None:
        return "–"
    interval = "" if estimate.low is None else f" ({estimate.low:.3f}–{estimate.high:.3f})"
    return f"{estimate.value:.3f}{interval}"


def _summary(evaluation: Evaluation) -> list[str]:
    """Video AUC: a row a corpus, a column a detector."""
    names = [model.name for model in evaluation.models]
    found = {(result.source, result.model): result.video.auc for result in evaluation.results}
    rows = [
        [source.name, *(estimate_text(found[source.name, name]) for name in names)] for source in evaluation.sources
    ]
    return [
        "## AUC by video",
        "",
        *_table(["corpus", *names], rows),
        "",
        "In brackets: 95 % bootstrap intervals, drawing whole groups (people or pieces of footage); none where fewer "
        f"than {MIN_GROUPS} groups have a label.",
        "",
    ]


def _result(result: Result, model: Model, source: Source) -> list[str]:
    video = result.video
    scored = f"{video.real} real and {video.fake} fake videos of {video.groups} groups, {source.crops} crops"
    whole = "every split" if source.split == "all" else f"the split {source.split}"
    lines = [
        f"## {_cell(result.model)} on {_cell(result.source)}",
        "",
        f"Scored: {scored}, from {whole} of `{source.path}`. Left out: {source.blurry} blurry crops, {source.unseen} "
        f"of faces too small or doubtful for a scan, {source.surplus} beyond the limit a video.",
        "",
        *(f"- {_cell(note)}" for note in result.notes),
        "",
    ]
    rows = [
        [name, *(estimate_text(getattr(level, field)) for level in (result.video, result.frame))]
        for name, field in _FIGURES
    ]
    lines += [*_table(["", "by video", "by crop"], rows), ""]
    if video.missing:
        lines += [f"Some figures can't be computed: {video.missing}.", ""]
    lines += ["### Verdicts", ""]
    lines += _verdicts([("videos", video), ("crops", result.frame)])
    lines += [
        "",
        f"Real below {model.real_below:.3f}, fake from {model.fake_above:.3f}; calibration and thresholds fitted on: "
        f"{_cell(model.calibrated_on) or 'nothing'}.",
        "",
    ]
    lines += [f"![{name}]({name})\n" for name in result.plots]
    lines += ["### Rules from faces to a person's score", ""]
    rules = [[rule.name, estimate_text(rule.auc)] for rule in result.rules]
    lines += [*_table(["a person's score is", "AUC by video"], rules), ""]
    for by, slices in groupby(result.slices, key=lambda part: part.by):
        lines += [f"### By {by}", "", *_slices(by, list(slices)), ""]
    if result.robustness:
        lines += ["### Robustness", "", *_robustness(result.robustness), ""]
    return lines


def _verdicts(levels: Iterable[tuple[str, Figures | Probabilities]]) -> list[str]:
    rows = [
        [f"{label} {name}", *(str(counts[verdict.value]) for verdict in _ORDER)]
        for name, level in levels
        for label, counts in level.verdicts.items()
    ]
    return _table(["", *(f"called {verdict.value}" for verdict in _ORDER)], rows)


def _slices(by: str, slices: Sequence[Slice]) -> list[str]:
    rows = []
    for part in slices:
        fakes = part.verdicts[FAKE]
        auc = estimate_text(part.auc) if not part.missing else f"– ({part.missing})"
        called = [str(fakes[verdict.value]) for verdict in _ORDER]
        rows.append([part.name, str(part.fake), f"{part.real} ({part.against})", auc, *called])
    heads = [by, "fake videos", "real videos", "AUC", *(f"fakes called {verdict.value}" for verdict in _ORDER)]
    return _table(heads, rows)


def _robustness(damages: Sequence[Damage]) -> list[str]:
    clean, *rest = damages
    rows = []
    for damage in rest:
        shares = ["–" if share is None else f"{share:.0%}" for share in (damage.flipped, damage.withdrawn)]
        level = f"{damage.level}: {damage.value:g}"
        wrong = (damage.verdicts[REAL][Verdict.FAKE.value], damage.verdicts[FAKE][Verdict.REAL.value])
        rows.append([damage.kind, level, estimate_text(damage.auc), str(damage.correct), *map(str, wrong), *shares])
    heads = ["damage", "level: value", "AUC by video", "right", "reals called fake", "fakes called real"]
    heads += ["flipped", "withdrawn"]
    kinds = dict.fromkeys(damage.kind for damage in rest)
    return [
        f"The same crops undamaged: AUC {estimate_text(clean.auc)}, {clean.correct} right verdicts, "
        f"{clean.verdicts[REAL][Verdict.FAKE.value]} reals called fake, {clean.verdicts[FAKE][Verdict.REAL.value]} "
        "fakes called real. *Flipped* is the share of those right verdicts that became the opposite, *withdrawn* the "
        "share that became inconclusive.",
        "",
        *_table(heads, rows),
        "",
        "Values: " + "; ".join(f"{kind}: {MEANING[Kind(kind)]}" for kind in kinds) + ".",
    ]


def _calibration(calibration: Calibration) -> list[str]:
    tried: list[tuple[str, Probabilities]] = [("before", calibration.before)]
    if calibration.cross_validated:
        tried.append((f"new, {calibration.folds}-fold cross-validated by group", calibration.cross_validated))
    tried.append(("new, on the videos it was fitted on (too good)", calibration.fitted))
    rows = [
        [name, *("–" if value is None else f"{value:.3f}" for value in (part.log_loss, part.brier, part.ece))]
        for name, part in tried
    ]
    return [
        "## New calibration",
        "",
        f"`{calibration.path}`: {calibration.method}, fitted on {_cell(calibration.fitted_on)}. p_fake = 1 / (1 + "
        f"exp(−({calibration.slope:.4g} · logit {calibration.intercept:+.4g}))); real below "
        f"{calibration.real_below:.3f}, fake from {calibration.fake_above:.3f}, chosen so that of these videos at most "
        f"{calibration.false_alarms:.0%} of the reals are called fake and {calibration.missed_fakes:.0%} of the fakes "
        "real. No figure above uses it.",
        "",
        *_table(["calibration", "log loss", "Brier score", "ECE"], rows),
        "",
        *_verdicts([(f"videos, {name}", part) for name, part in tried]),
        "",
        *([calibration.note, ""] if calibration.note else []),
    ]


def _explanations(evaluation: Evaluation) -> list[str]:
    settings = json.dumps(evaluation.settings, sort_keys=True)
    return [
        "## How it was computed",
        "",
        "- By video: a scan's own rule (trimmed mean of a track's logits, the most suspicious lasting track decides) "
        "on the crops that are there; by crop: each for itself, with the thresholds for videos. scores.csv and "
        "frames.csv hold every score.",
        "- AUC, equal error rate and average precision are of the logits and need no threshold; accuracy takes p_fake "
        "0.5. Coverage and the verdicts use the detector's thresholds.",
        "- Log loss, Brier score and ECE weigh real and fake the same in sum, as the calibration does: it answers for "
        f"an even prior. The ECE has {evaluation.settings.get('bins')} equally wide bins, and is above 0 by chance "
        "alone in a small set.",
        f"- Settings: `{settings}`",
        *(f"- Detector {_cell(model.name)}: SHA-256 {model.sha256}" for model in evaluation.models),
        "- A low score is no proof of authenticity. Figures hold for footage like this, and not for other generators, "
        "compressions or people.",
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return list(_table_lines(heads, rows))


def _table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(_cell(head) for head in heads) + " |"
    yield "|" + "---|" + "---:|" * (len(heads) - 1)
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"


def _cell(text: str) -> str:
    """Text that can't break a table's row."""
    return " ".join(text.replace("|", "\\|").split())


#: A set with fewer videos of a label, or fewer groups, is called small.
FEW_VIDEOS = 50
FEW_GROUPS = 30

_OF_SPLITS = {
    "train": "These are training groups: the detector may know them by heart, and every figure is too good then.",
    "all": "Training groups may be among these: figures are too good where the detector was trained on this corpus.",
    "val": "Training chooses its best epoch and fits its calibration on validation groups: figures on the validation "
    "split of the detector's own training are somewhat too good.",
}


def notes_on(
    source: Source, header: Header, videos: pd.DataFrame, *, damaged: bool, known: int | None = None
) -> tuple[str, ...]:
    """Everything worth saying about one detector on one set of crops.

    Args:
        source: the crops.
        header: of the detector.
        videos: as ``judge_videos`` gives them.
        damaged: whether robustness was measured.
        known: number of the crops that the detector was trained on, going by their pictures; None if its checkpoint
            records none, so that the names of the groups decide.
    """
    notes = [_OF_SPLITS[source.split]] if source.split in _OF_SPLITS else []
    groups = videos["group"].nunique()
    if known and source.split != "train":
        notes.append(
            f"{header.name} was trained on at least {known} of these {source.crops} crops: every figure is too good."
        )
    trained = trained_groups(header, videos["group"]) if known is None else 0
    if trained and source.split != "train":
        notes.append(
            f"{header.name} was trained on groups of the same names as {trained} of these {groups}: every figure is "
            "too good."
        )
    if fitted := fitted_groups(header, videos["group"]):
        notes.append(
            f"Calibration and thresholds of {header.name} were fitted on groups of the same names as {fitted} of these "
            f"{groups}: log loss, Brier score, ECE and verdicts are too good."
        )
    if not header.calibrated_on:
        notes.append(f"{header.name} was never calibrated: probabilities, thresholds and coverage mean little.")
    fakes = int((videos["label"] == FAKE).sum())
    if min(fakes, len(videos) - fakes) < FEW_VIDEOS or groups < FEW_GROUPS:
        notes.append(
            f"The set is small ({len(videos) - fakes} real and {fakes} fake videos of {groups} groups): differences "
            "within the intervals mean nothing, and the intervals of so few groups are themselves too narrow."
        )
    if source.unreadable:
        notes.append(f"{source.unreadable} crops could not be read, such as {source.first_unreadable}")
    if source.stills:
        notes.append(
            f"{source.stills} crops of stills were left out: they would separate kinds of pictures, not fakes."
        )
    if unscored := int(videos["logit"].isna().sum()):
        notes.append(f"Videos without a sharp face: {unscored}. Their verdict is inconclusive, and they have no score.")
    if damaged:
        notes.append(
            "Damaged crops are scored however blurry they have become; a scan would leave the blurriest out. H.264 "
            "gets the sampled frames as one clip: they lie further apart than in a video, so it predicts less well."
        )
    return tuple(notes)
