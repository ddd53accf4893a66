"""``torchfakes evaluate``: how good a detector is, on crops or a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.completion import DAMAGES, damages, detector_names
from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import (
    JUDGING_PANEL,
    OUTPUT_PANEL,
    DebugOption,
    DeviceOption,
    command_line,
    parse_levels,
    refuse_urls,
)
from torchfakes_cli.training.config import CalibrationFit, EvaluateConfig, PrepareConfig, SplitName

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen

_ROBUSTNESS = "Robustness"
_CALIBRATION = "Calibration"
_DEFAULT = EvaluateConfig()


def evaluate_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CROPS_OR_CORPUS",
            help="Read folders written by 'torchfakes prepare', or corpora, whose faces are extracted first.",
            show_default=PrepareConfig().out,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=JUDGING_PANEL,
            help="Evaluate this detector; repeat the option to compare several.",
            show_default="the one that ships",
            autocompletion=detector_names,
        ),
    ] = None,
    split: Annotated[
        SplitName,
        typer.Option(rich_help_panel=JUDGING_PANEL, help="Evaluate this split; all for a corpus never trained on."),
    ] = "test",
    frames_per_video: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=JUDGING_PANEL, help="Use at most N crops per person and video.")
    ] = _DEFAULT.frames_per_video,
    robustness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            rich_help_panel=_ROBUSTNESS,
            help=f"Measure damaged crops, too: {', '.join(DAMAGES)}, or all; repeatable.",
            show_default="none",
            autocompletion=damages,
        ),
    ] = None,
    levels: Annotated[
        str,
        typer.Option(
            metavar="LIST", rich_help_panel=_ROBUSTNESS, help="Use these levels of damage, from 1 (mild) to 5 (severe)."
        ),
    ] = ",".join(map(str, _DEFAULT.levels)),
    robustness_frames: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_ROBUSTNESS, help="Damage N crops per person and video.")
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
    target_fpr: Annotated[
        float,
        typer.Option(
            metavar="SHARE", rich_help_panel=_CALIBRATION, help="Call at most this share of real videos fake."
        ),
    ] = _DEFAULT.false_alarms,
    target_fnr: Annotated[
        float,
        typer.Option(
            metavar="SHARE", rich_help_panel=_CALIBRATION, help="Call at most this share of fake videos real."
        ),
    ] = _DEFAULT.missed_fakes,
    bootstrap: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=OUTPUT_PANEL, help="Draw N bootstrap rounds for the intervals.")
    ] = _DEFAULT.rounds,
    bins: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=OUTPUT_PANEL, help="Use N bins for reliability plot and ECE.")
    ] = _DEFAULT.bins,
    seed: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=OUTPUT_PANEL, help="Set the random seed.")
    ] = _DEFAULT.seed,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            rich_help_panel=OUTPUT_PANEL,
            help="Write report, plots and scores here.",
        ),
    ] = _DEFAULT.out,
    json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=OUTPUT_PANEL, help="Print report.json on stdout instead of tables."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            rich_help_panel=OUTPUT_PANEL,
            help="Extract crops in N processes.",
            show_default="one a core",
        ),
    ] = _DEFAULT.jobs,
    device: DeviceOption = _DEFAULT.device,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=OUTPUT_PANEL, help="Replace files that are not an evaluation's.")
    ] = _DEFAULT.force,
    debug: DebugOption = False,
) -> None:
    """Measure detectors on labeled faces.

    By frame and by video, with intervals: AUC, equal error rate, verdicts and how often they are firm and right,
    calibration; by method, compression and face size; under damage if asked for. The report, plots and all scores are
    written to a folder.

    Examples:
        torchfakes evaluate crops
        torchfakes evaluate crops --robustness all --robustness-frames 3
        torchfakes evaluate crops celeb-df --model a.safetensors --model b.safetensors --split all -o both
        torchfakes evaluate crops --split val --calibrate calibrated.safetensors -o calibration
    """
    with guarded(debug=debug):
        config = EvaluateConfig(
            out=output,
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
            false_alarms=target_fpr,
            missed_fakes=target_fnr,
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
    from torchfakes_cli.cli.console.evaluate_view import evaluation_views
    from torchfakes_cli.training.evaluate.evaluate import evaluate_detector

    screen = Screen()
    with _stages(screen) as progress:
        summary = evaluate_detector(paths, config, progress, command=command_line())
    found = summary.evaluation
    if json:
        screen.line(summary.document.read_text(encoding="utf-8").rstrip("\n"))
    else:
        for view in evaluation_views(found):
            screen.result(view)
    notes = [note for result in found.results for note in result.notes]
    if found.calibration and found.calibration.note:
        notes.append(found.calibration.note)
    for note in dict.fromkeys(notes):
        screen.warning(note)
    screen.note(f"report, plots and scores: {summary.report}")


@contextmanager
def _stages(screen: Screen) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar for each stage, one after the other."""
    with ExitStack() as bar:
        advances: dict[str, Callable[[int, int | None], None]] = {}

        def progress(stage: str, done: int, wanted: int | None) -> None:
            if stage not in advances:
                bar.close()
                advances[stage] = bar.enter_context(screen.progress(stage))
            advances[stage](done, wanted)

        yield progress
