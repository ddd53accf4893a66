"""Tables and texts of prepare, train and evaluate for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.screen import numbers_table
from torchfakes_cli.report.formatting import safe

if TYPE_CHECKING:
    from torchfakes_cli.training.crops.report import PrepareSummary
    from torchfakes_cli.training.evaluate.findings import Calibration, Estimate, Evaluation, Result
    from torchfakes_cli.training.fit.train import TrainSummary


def crops_table(summary: PrepareSummary) -> Table:
    """Make a table of counts by split, label and method, with a total."""
    table = numbers_table("split", "label", "method", "files", "crops", "usable", "balanced", texts=3)
    totals = [0, 0, 0, 0]
    previous = ""
    for count in summary.counts:
        if previous and count.split != previous:
            table.add_section()
        previous = count.split
        numbers = (count.videos, count.crops, count.usable, count.balanced)
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        table.add_row(count.split, count.label, Text(safe(count.method)), *map(str, numbers))
    table.add_section()
    table.add_row("all", "", "", *map(str, totals))
    return table


def training_table(summary: TrainSummary) -> Table:
    """Make a table of the best checkpoint's figures on validation and test groups."""
    header = summary.header
    caption = (
        f"best epoch {summary.best_epoch}; a video is called fake from p_fake {header.fake_above:.2f} "
        f"and real below {header.real_below:.2f}"
    )
    columns = ("groups", "videos", "crops", "frame AUC", "video AUC", "95 % interval")
    table = numbers_table(*columns, caption=caption)
    for name, scores in (("validation", summary.validation), ("test", summary.test)):
        if scores is not None:
            interval = scores.video_auc_interval
            within = "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"
            aucs = (figure(scores.frame_auc), figure(scores.video_auc))
            table.add_row(name, str(scores.videos), str(scores.crops), *aucs, within)
    return table


def verdict_text(verdicts: Mapping[str, Mapping[str, int]]) -> Text:
    """Tell how many real and fake test videos get which verdict, on a line each."""
    lines = []
    for label, counts in verdicts.items():
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines.append(f"of {sum(counts.values())} {label} test videos: {said}")
    return Text("\n".join(lines))


def figure(value: float | None, digits: int = 3) -> str:
    """Format a share; "unknown" for None."""
    return "unknown" if value is None else f"{value:.{digits}f}"


def evaluation_views(evaluation: Evaluation) -> Iterator[Table | Text]:
    """Yield what to show of an evaluation, in order."""
    several = len(evaluation.models) > 1
    yield _comparison_table(evaluation) if several else _evaluation_table(evaluation)
    for result in evaluation.results:
        if altered := result.altered:
            name = f"{result.model} on {result.source}" if several else result.source
            text = (
                f"{name}: of {altered.videos} fake videos with a known altered person, {altered.called_fake} were "
                f"called fake, {altered.person_flagged} of these with the altered person flagged."
            )
            yield Text(safe(text))
    if len(evaluation.results) == 1 and any(part.by == "method" for part in evaluation.results[0].slices):
        yield _methods_table(evaluation.results[0])
    if evaluation.calibration:
        yield _calibration_text(evaluation.calibration)


def _evaluation_table(evaluation: Evaluation) -> Table:
    caption = "By video; 95 % intervals draw whole groups. Firm: share of the verdicts; right: share of the firm ones."
    table = numbers_table("corpus", "reals", "fakes", "AUC", "interval", "EER", "firm", "right", "ECE", caption=caption)
    for result in evaluation.results:
        video = result.video
        numbers = (str(video.real), str(video.fake), figure(video.auc.value), _interval(video.auc))
        shares = (video.eer, video.coverage, video.selective_accuracy, video.ece)
        table.add_row(Text(safe(result.source)), *numbers, *(figure(share.value, 2) for share in shares))
    return table


def _comparison_table(evaluation: Evaluation) -> Table:
    names = [Text(safe(model.name)) for model in evaluation.models]
    table = numbers_table("corpus", *names, caption="AUC by video; 95 % intervals draw whole groups")
    for source in evaluation.sources:
        found = [result.video.auc for result in evaluation.results if result.source == source.name]
        table.add_row(Text(safe(source.name)), *(f"{figure(auc.value)}  {_interval(auc)}".rstrip() for auc in found))
    return table


def _methods_table(result: Result) -> Table:
    caption = "By video, against the originals of these fakes if there are any; the last columns count their verdicts."
    table = numbers_table("method", "fakes", "reals", "AUC", "interval", "real", "open", "fake", caption=caption)
    for part in result.slices:
        if part.by == "method":
            verdicts = [str(part.verdicts["fake"][verdict]) for verdict in ("real", "inconclusive", "fake")]
            numbers = (str(part.fake), str(part.real), figure(part.auc.value), _interval(part.auc))
            table.add_row(Text(safe(part.name)), *numbers, *verdicts)
    return table


def _calibration_text(calibration: Calibration) -> Text:
    lines = [
        f"{calibration.path}: {calibration.method} fitted on {calibration.fitted_on}; real below "
        f"{calibration.real_below:.3f}, fake from {calibration.fake_above:.3f}"
    ]
    for name, part in (("before", calibration.before), ("new, cross-validated", calibration.cross_validated)):
        if part is not None and part.log_loss is not None and part.ece is not None:
            lines.append(f"{name}: log loss {part.log_loss:.3f}, ECE {part.ece:.3f}")
    return Text("\n".join(safe(line) for line in lines))


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None else f"{estimate.low:.2f}–{estimate.high:.2f}"
