"""An evaluation as a Markdown report that a person can read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from torchfakes_cli.records import Verdict
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.evaluate.figures import MIN_GROUPS
from torchfakes_cli.training.evaluate.findings import (
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
from torchfakes_cli.training.evaluate.perturb import MEANING, Kind

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
        lines += [f"Some figures can't be told: {video.missing}.", ""]
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
