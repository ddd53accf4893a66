"""Tables and texts of an evaluation for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from torchfakes_cli.report.text import safe

if TYPE_CHECKING:
    from torchfakes_cli.training.evaluate.findings import Calibration, Estimate, Evaluation, Result


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
    table = _table("corpus", "reals", "fakes", "AUC", "interval", "EER", "firm", "right", "ECE", caption=caption)
    for result in evaluation.results:
        video = result.video
        shares = (video.eer, video.coverage, video.selective_accuracy, video.ece)
        table.add_row(
            Text(safe(result.source)),
            *(str(video.real), str(video.fake), _share(video.auc, 3), _interval(video.auc), *map(_share, shares)),
        )
    return table


def _comparison_table(evaluation: Evaluation) -> Table:
    names = [Text(safe(model.name)) for model in evaluation.models]
    table = _table("corpus", *names, caption="AUC by video; 95 % intervals draw whole groups")
    for source in evaluation.sources:
        found = [result.video.auc for result in evaluation.results if result.source == source.name]
        table.add_row(Text(safe(source.name)), *(f"{_share(auc, 3)}  {_interval(auc)}".rstrip() for auc in found))
    return table


def _methods_table(result: Result) -> Table:
    caption = "By video, against the originals of these fakes if there are any; the last columns count their verdicts."
    table = _table("method", "fakes", "reals", "AUC", "interval", "real", "open", "fake", caption=caption)
    for part in result.slices:
        if part.by == "method":
            verdicts = [str(part.verdicts["fake"][verdict]) for verdict in ("real", "inconclusive", "fake")]
            numbers = (str(part.fake), str(part.real), _share(part.auc, 3), _interval(part.auc))
            table.add_row(Text(safe(part.name)), *numbers, *verdicts)
    return table


def _table(first: str, *others: str | Text, caption: str) -> Table:
    table = Table(caption=caption, caption_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
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


def _share(estimate: Estimate, digits: int = 2) -> str:
    return "unknown" if estimate.value is None else f"{estimate.value:.{digits}f}"
