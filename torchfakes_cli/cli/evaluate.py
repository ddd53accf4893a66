"""``torchfakes evaluate``: how good a detector is, on crops or a corpus."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.completion import DAMAGES, damages, detector_names, devices
from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import parse_levels, refuse_urls
from torchfakes_cli.training.config import CalibrationFit, EvaluateConfig, PrepareConfig, SplitName

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen

_DATA = "What is measured"
_ROBUSTNESS = "Robustness"
_CALIBRATION = "Calibration"
_RUN = "Run and output"

_DEFAULT = EvaluateConfig()


def evaluate_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CROPS_OR_CORPUS",
            help="Read folders written by 'torchfakes prepare', or corpora, whose faces are extracted first. "
            "Several give a table across corpora.",
            show_default=PrepareConfig().out,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_DATA,
            help="Evaluate this detector; repeat the option to compare several.",
            show_default="the one that ships",
            autocompletion=detector_names,
        ),
    ] = None,
    split: Annotated[
        SplitName,
        typer.Option(rich_help_panel=_DATA, help="Evaluate this split. Use all for a corpus never trained on."),
    ] = "test",
    frames_per_video: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_DATA, help="Use at most N crops per person and video.")
    ] = _DEFAULT.frames_per_video,
    robustness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            rich_help_panel=_ROBUSTNESS,
            help=f"Also measure on damaged crops: {', '.join(DAMAGES)}, or all; repeatable.",
            show_default="none",
            autocompletion=damages,
        ),
    ] = None,
    levels: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            rich_help_panel=_ROBUSTNESS,
            help="Use these levels of damage, from 1 (mild) to 5 (severe), such as 1,3,5.",
        ),
    ] = ",".join(map(str, _DEFAULT.levels)),
    robustness_frames: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=_ROBUSTNESS, help="Damage N crops per person and video."),
    ] = _DEFAULT.robustness_frames,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_CALIBRATION,
            help="Write the detector with a calibration and thresholds fitted on this split (val, not train) to FILE.",
            show_default="none",
        ),
    ] = _DEFAULT.calibrate,
    fit: Annotated[
        CalibrationFit,
        typer.Option(
            rich_help_panel=_CALIBRATION, help="Fit slope and intercept (platt), or slope alone (temperature)."
        ),
    ] = "platt",
    false_alarms: Annotated[
        float,
        typer.Option(
            "--target-fpr",
            metavar="SHARE",
            rich_help_panel=_CALIBRATION,
            help="Of real videos, call at most this share fake.",
        ),
    ] = _DEFAULT.false_alarms,
    missed_fakes: Annotated[
        float,
        typer.Option(
            "--target-fnr",
            metavar="SHARE",
            rich_help_panel=_CALIBRATION,
            help="Of fake videos, call at most this share real.",
        ),
    ] = _DEFAULT.missed_fakes,
    bootstrap: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=_RUN, help="Set the number of bootstrap rounds for the intervals."),
    ] = _DEFAULT.rounds,
    bins: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=_RUN, help="Set the number of bins of the reliability plot and ECE."),
    ] = _DEFAULT.bins,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=_RUN, help="Set the random seed.")] = (
        _DEFAULT.seed
    ),
    out: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FOLDER", rich_help_panel=_RUN, help="Write the report, plots and scores here."
        ),
    ] = _DEFAULT.out,
    json: Annotated[
        bool, typer.Option("--json", rich_help_panel=_RUN, help="Print report.json on stdout instead of tables.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            rich_help_panel=_RUN,
            help="Set the number of processes that extract crops.",
            show_default="one a core",
        ),
    ] = _DEFAULT.jobs,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME", rich_help_panel=_RUN, help="Run on auto, cpu, cuda or cuda:N.", autocompletion=devices
        ),
    ] = _DEFAULT.device,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=_RUN, help="Replace files that are not an evaluation's.")
    ] = _DEFAULT.force,
    debug: Annotated[
        bool, typer.Option("--debug", rich_help_panel=_RUN, help="Show the log, and tracebacks of errors.")
    ] = False,
) -> None:
    """Measure detectors on labelled faces.

    By frame and by video, with intervals: AUC, equal error rate, verdicts and how often they are firm and right,
    calibration; by method, compression and face size; under damage if asked for. The report, plots and all scores are
    written to a folder.
    """
    with guarded(debug=debug):
        config = EvaluateConfig(
            out=out,
            models=tuple(model or ()),
            split=split,
            frames_per_video=frames_per_video,
            robustness=tuple(robustness or ()),
            levels=parse_levels(levels),
            robustness_frames=robustness_frames,
            rounds=bootstrap,
            bins=bins,
            calibrate=calibrate,
            calibration=fit,
            false_alarms=false_alarms,
            missed_fakes=missed_fakes,
            seed=seed,
            jobs=jobs,
            device=device,
            force=force,
        )
        paths = inputs or [PrepareConfig().out]
        refuse_urls(paths)
        _evaluate(paths, config, json=json)


def _evaluate(paths: list[str], config: EvaluateConfig, *, json: bool) -> None:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.cli.console.evaluate_view import (
        calibration_text,
        comparison_table,
        evaluation_table,
        methods_table,
    )
    from torchfakes_cli.training.evaluate.evaluate import evaluate_detector

    screen = Screen()
    with _stages(screen) as progress:
        summary = evaluate_detector(paths, config, progress, command=shlex.join(["torchfakes", *sys.argv[1:]]))
    found = summary.evaluation
    if json:
        screen.line(summary.document.read_text(encoding="utf-8").rstrip("\n"))
    else:
        screen.result(evaluation_table(found) if len(found.models) == 1 else comparison_table(found))
        if len(found.results) == 1 and any(part.by == "method" for part in found.results[0].slices):
            screen.result(methods_table(found.results[0]))
        if found.calibration:
            screen.result(calibration_text(found.calibration))
    notes = [note for result in found.results for note in result.notes]
    if found.calibration and found.calibration.note:
        notes.append(found.calibration.note)
    for note in dict.fromkeys(notes):
        screen.warning(note)
    screen.note(f"report, plots and scores: {summary.report}")


@contextmanager
def _stages(screen: Screen) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for each stage of the work, one after the other."""
    with ExitStack() as bar:
        shown = ""
        advance: Callable[[int, int | None], None] = lambda *_: None  # noqa: E731

        def progress(stage: str, done: int, wanted: int | None) -> None:
            nonlocal shown, advance
            if stage != shown:
                bar.close()
                shown, advance = stage, bar.enter_context(screen.progress(stage))
            advance(done, wanted)

        yield progress
