"""``torchfakes evaluate``: how good a detector is, on crops or a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli import options as opt
from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import DAMAGES, JUDGING, OUTPUT, option
from torchfakes_cli.training.config import CalibrationFit, EvaluateConfig, PrepareConfig, SplitName

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen

_ROBUSTNESS, _CALIBRATION = "Robustness", "Calibration"
_DEFAULT = EvaluateConfig()


def evaluate_command(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CROPS_OR_CORPUS",
            help="Read folders written by 'torchfakes prepare', or corpora, whose faces are extracted first.",
            show_default=PrepareConfig().out,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        option(
            JUDGING,
            "FILE",
            "Evaluate this detector; repeat the option to compare several.",
            "--model",
            default="the one that ships",
            autocompletion=opt.detectors,
        ),
    ] = None,
    split: Annotated[
        SplitName, option(JUDGING, None, "Evaluate this split; all for a corpus never trained on.")
    ] = _DEFAULT.split,
    frames_per_video: Annotated[
        int, option(JUDGING, "N", "Use at most N crops per person and video.")
    ] = _DEFAULT.frames_per_video,
    robustness: Annotated[
        list[str] | None,
        option(
            _ROBUSTNESS,
            "KIND",
            f"Measure damaged crops, too: {', '.join(DAMAGES)}, or all; repeatable.",
            default="none",
            autocompletion=opt.one_of(*DAMAGES, "all"),
        ),
    ] = None,
    levels: Annotated[
        str, option(_ROBUSTNESS, "LIST", "Use these levels of damage, from 1 (mild) to 5 (severe).")
    ] = ",".join(map(str, _DEFAULT.levels)),
    robustness_frames: Annotated[
        int, option(_ROBUSTNESS, "N", "Damage N crops per person and video.")
    ] = _DEFAULT.robustness_frames,
    coarse_weight: Annotated[
        float | None,
        option(
            _CALIBRATION,
            "X",
            "Subtract X times the logit of each face's coarse copy from its own: slower, may help on new sources.",
            default="the checkpoint's",
        ),
    ] = _DEFAULT.coarse_weight,
    calibrate: Annotated[
        str | None,
        option(
            _CALIBRATION,
            "FILE",
            "Write the detector with a calibration and thresholds fitted on this split (val, not train) to FILE.",
            default="none",
        ),
    ] = _DEFAULT.calibrate,
    calibration: Annotated[
        CalibrationFit,
        option(_CALIBRATION, None, "Fit slope and intercept (platt), or slope alone (temperature).", "--fit"),
    ] = _DEFAULT.calibration,
    false_alarms: Annotated[
        float, option(_CALIBRATION, "SHARE", "Call at most this share of real videos fake.", "--target-fpr")
    ] = _DEFAULT.false_alarms,
    missed_fakes: Annotated[
        float, option(_CALIBRATION, "SHARE", "Call at most this share of fake videos real.", "--target-fnr")
    ] = _DEFAULT.missed_fakes,
    rounds: Annotated[
        int, option(OUTPUT, "N", "Draw N bootstrap rounds for the intervals.", "--bootstrap")
    ] = _DEFAULT.rounds,
    bins: Annotated[int, option(OUTPUT, "N", "Use N bins for reliability plot and ECE.")] = _DEFAULT.bins,
    seed: Annotated[int, option(OUTPUT, "N", "Set the random seed.")] = _DEFAULT.seed,
    out: Annotated[
        str, option(OUTPUT, "FOLDER", "Write report, plots and scores here.", "--output", "-o")
    ] = _DEFAULT.out,
    json: Annotated[bool, option(OUTPUT, None, "Print report.json on stdout instead of tables.", "--json")] = False,
    jobs: Annotated[
        int | None, option(OUTPUT, "N", "Extract crops in N processes.", "--jobs", "-j", default="one a core")
    ] = _DEFAULT.jobs,
    device: opt.Device = _DEFAULT.device,
    force: Annotated[
        bool, option(OUTPUT, None, "Replace files that are not an evaluation's.", "--force")
    ] = _DEFAULT.force,
    debug: opt.Debug = False,
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
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console.training_view import evaluation_views
        from torchfakes_cli.training.evaluate.evaluate import evaluate_detector

        numbers = opt.parse_numbers("--levels", levels, "1,3,5 (from 1 to 5)")
        config = opt.configured(EvaluateConfig, context, levels=numbers)
        paths = inputs or [PrepareConfig().out]
        opt.refuse_urls(paths)
        with _stages(screen) as progress:
            summary = evaluate_detector(paths, config, progress, command=opt.command_line())
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
