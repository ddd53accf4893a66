"""``torchfakes train``: from a folder of crops to a detector."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import Debug, detectors, one_of, option, parse_numbers
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.config import (
    Augment,
    OptimizerName,
    Precision,
    PrepareConfig,
    Recipe,
    Schedule,
    TrackerName,
    TrainConfig,
    train_recipe,
)

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.training.fit.train import TrainProgress, TrainSummary

#: Panels of the help.
_START, _DATA, _NETWORK = "Start and length", "Data", "Network"
_RATE, _MACHINE, _OUTPUT = "How it learns", "Machine", "Output"

_DEFAULT = TrainConfig()


def train_command(
    context: typer.Context,
    crops: Annotated[str, typer.Argument(metavar="CROPS", help="Read the folder written by 'torchfakes prepare'.")] = (
        PrepareConfig().out
    ),
    recipe: Annotated[
        Recipe,
        option(_START, None, "Set the defaults of all other options; origin is plain transfer learning."),
    ] = "default",
    start: Annotated[
        str | None,
        option(
            _START,
            "WEIGHTS",
            "Set the initial weights: vggface2 (face recognition, fetched once), imagenet, scratch, a checkpoint such "
            "as torchfakes (the detector that ships), or a file with the tensors of the backbone's trunk.",
            "--weights",
            default="vggface2 with InceptionResnetV1, else imagenet",
            autocompletion=_starts,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        option(
            _START,
            "NAME",
            "Set the network: InceptionResnetV1, EfficientNetLite0 or timm:NAME.",
            default="the checkpoint's, else InceptionResnetV1",
        ),
    ] = None,
    epochs: Annotated[int, option(_START, "N", "Train for N epochs; each is validated.")] = _DEFAULT.epochs,
    samples_per_epoch: Annotated[
        int | None, option(_START, "N", "Use N crops per epoch.", default="the balanced training crops")
    ] = None,
    batch: Annotated[
        int, option(_START, "N", "Use N crops per update, half of them fake.", "--batch-size")
    ] = _DEFAULT.batch,
    teacher: Annotated[
        str | None,
        option(
            _START,
            "FILE",
            "Also learn to match the features and logits of this checkpoint.",
            default="none",
            autocompletion=_starts,
        ),
    ] = None,
    feature_epochs: Annotated[
        float, option(_START, "SHARE", "Set the share of the training in which the teacher's features weigh most.")
    ] = _DEFAULT.feature_epochs,
    mix: Annotated[
        str | None,
        option(
            _DATA,
            "LIST",
            "Set shares of the pairs by method or collection, such as dfdc=0.6,film=0.1; others share the rest.",
            default="by the square root of their sizes",
        ),
    ] = None,
    self_blend: Annotated[
        float, option(_DATA, "SHARE", "Set the share of fakes made from real faces by blending.")
    ] = _DEFAULT.self_blend,
    augment: Annotated[
        Augment, option(_DATA, None, "Set the augmentation: none, light, or strong (JPEG, H.264, blur, noise).")
    ] = _DEFAULT.augment,
    seed: Annotated[int, option(_DATA, "N", "Set the random seed.")] = _DEFAULT.seed,
    input_size: Annotated[
        int | None,
        option(_NETWORK, "PIXELS", "Set the side of the network's input.", default="the start's own, or 160"),
    ] = None,
    sizes: Annotated[
        str | None,
        option(
            _NETWORK,
            "LIST",
            "Let the input grow over the training, such as 96,128,160; the last is the detector's.",
            default="one size",
        ),
    ] = None,
    unit_range: Annotated[
        bool,
        option(
            _NETWORK, None, "Give the network values from 0 to 1, or standardised ones.", "--unit-range/--standardised"
        ),
    ] = _DEFAULT.unit_range,
    dropout: Annotated[
        float | None,
        option(_NETWORK, "SHARE", "Drop this share of the features (dropout).", default="the backbone's own"),
    ] = None,
    optimizer: Annotated[OptimizerName, option(_RATE, None, "Set the optimizer.")] = _DEFAULT.optimizer,
    learning_rate: Annotated[
        float | None,
        option(
            _RATE, "X", "Set the peak learning rate.", "--lr", default="0.0001, from scratch 0.001; of sgd 0.01 and 0.1"
        ),
    ] = None,
    schedule: Annotated[
        Schedule, option(_RATE, None, "Set how the learning rate falls after the warm-up.")
    ] = _DEFAULT.schedule,
    warm_up: Annotated[
        float, option(_RATE, "SHARE", "Set the share of the updates in which the learning rate rises.", "--warmup")
    ] = _DEFAULT.warm_up,
    weight_decay: Annotated[
        float, option(_RATE, "X", "Set the weight decay of the optimizer.")
    ] = _DEFAULT.weight_decay,
    ranking: Annotated[
        float, option(_RATE, "X", "Set the weight of the loss that ranks a fake above its real counterpart.")
    ] = _DEFAULT.ranking,
    ema: Annotated[
        float, option(_RATE, "DECAY", "Set the decay of the moving average of the weights; 0 keeps the last weights.")
    ] = _DEFAULT.ema,
    stop_on_collapse: Annotated[
        int,
        option(_RATE, "N", "Stop after N epochs in a row in which all scores agree.", default="never"),
    ] = _DEFAULT.stop_on_collapse,
    device: Annotated[
        str, option(_MACHINE, "NAME", "Run on auto, cpu, cuda or cuda:N.", autocompletion=one_of("auto", "cpu", "cuda"))
    ] = _DEFAULT.device,
    precision: Annotated[
        Precision,
        option(_MACHINE, None, "Set the precision: auto is bf16 where the machine supports it; fp16 needs CUDA."),
    ] = _DEFAULT.precision,
    micro_batch: Annotated[
        int | None,
        option(
            _MACHINE,
            "N",
            "Process N crops at once and accumulate their gradients. Halved when memory runs out.",
            default="the batch",
        ),
    ] = None,
    compile: Annotated[
        bool, option(_MACHINE, None, "Speed the network up with torch.compile on CUDA.", "--compile")
    ] = _DEFAULT.compile,
    workers: Annotated[
        int | None,
        option(
            _MACHINE,
            "N",
            "Set the number of processes that load and augment crops.",
            default="one less than there are cores; none on the CPU",
        ),
    ] = None,
    out: Annotated[
        str, option(_OUTPUT, "FOLDER", "Write checkpoints, log.csv and curves.png here.", "--output", "-o")
    ] = _DEFAULT.out,
    name: Annotated[str, option(_OUTPUT, "NAME", "Set the name of the detector that verdicts show.")] = _DEFAULT.name,
    track: Annotated[
        list[str] | None,
        option(
            _OUTPUT,
            "NAME",
            "Report figures to tensorboard or wandb too (wandb sends them to its server); repeatable.",
            "--logger",
            default="none",
            autocompletion=one_of(*get_args(TrackerName)),
        ),
    ] = None,
    save_minutes: Annotated[
        float,
        option(_OUTPUT, "N", "Save the training state at this interval, besides after each epoch; 0 for epochs alone."),
    ] = _DEFAULT.save_minutes,
    resume: Annotated[
        bool,
        option(_OUTPUT, None, "Continue the interrupted training in the folder, with its settings.", "--resume"),
    ] = _DEFAULT.resume,
    force: Annotated[
        bool, option(_OUTPUT, None, "Replace an earlier training in the folder.", "--force")
    ] = _DEFAULT.force,
    debug: Debug = False,
) -> None:
    """Train a detector on face crops.

    Each epoch is validated on people the network doesn't train on. The best and the last checkpoint are kept; the best
    is calibrated, measured on the test groups and ready for 'torchfakes scan --model'.

    Examples:
        torchfakes train crops -o runs/mine
        torchfakes train crops -o runs/mine --resume
        torchfakes train crops --weights torchfakes -o runs/tuned
        torchrun --standalone --nproc-per-node 4 -m torchfakes_cli train crops
    """
    is_first = os.environ.get("RANK", "0") == "0"  # it reports for all processes that torchrun started
    with guarded(debug=debug, quiet=not is_first) as screen:
        # Of options that were not given, the recipe or the interrupted training decides.
        named = {field.name for field in fields(TrainConfig)}
        given = {name: value for name, value in context.params.items() if name in named and _is_given(context, name)}
        if mix is not None:
            given["mix"] = parse_mix(mix)
        if sizes is not None:
            given["sizes"] = parse_numbers("--sizes", sizes, "96,128,160")
        if track:
            given["track"] = tuple(track)
        if resume:
            from torchfakes_cli.training.fit.state import saved_config

            config = replace(saved_config(out), **given)
        else:
            config = replace(train_recipe(recipe), **given)
        try:
            summary, shown = _train(crops, config, screen)
        except KeyboardInterrupt:
            from torchfakes_cli.training.fit.state import STATE

            if is_first:
                onward = f"go on with the same command and --resume, or: torchfakes train --resume -o {config.out}"
                saved = Path(config.out, STATE).is_file()
                screen.error(
                    f"interrupted; {onward}" if saved else "interrupted before there was anything to go on from"
                )
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if is_first:
            _report(summary, shown, screen)


def _is_given(context: typer.Context, name: str) -> bool:
    """True if the user gave a parameter, False for its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _starts(incomplete: str) -> list[str]:
    """Complete weights that a training can start from."""
    return [*one_of("vggface2", "imagenet", "scratch")(incomplete), *detectors(incomplete)]


def parse_mix(text: str) -> dict[str, float]:
    """Parse a list of shares such as ``dfdc=0.6,film=0.1``.

    Raises:
        UsageError: it is no such list.
    """
    try:
        return {name.strip(): float(share) for name, share in (pair.rsplit("=", 1) for pair in text.split(","))}
    except ValueError:
        raise UsageError(f"--mix takes shares such as dfdc=0.6,film=0.1, not {text!r}") from None


def _train(crops: str, config: TrainConfig, screen: Screen) -> tuple[TrainSummary, set[str]]:
    """Train and show progress; also return the warnings that were shown."""
    from torchfakes_cli.cli.console.training_view import figure
    from torchfakes_cli.training.fit.train import train_detector

    shown: set[str] = set()
    with screen.progress("training", "crops") as advance:

        def progress(step: TrainProgress) -> None:
            advance(step.samples, step.samples_wanted)
            if scores := step.validation:
                screen.note(
                    f"epoch {step.epoch} of {config.epochs}: loss {step.loss:.3f}, accuracy {step.accuracy:.3f}; "
                    f"validation AUC {figure(scores.frame_auc)} by frame, {figure(scores.video_auc)} by video"
                )
            if step.warning:
                screen.warning(step.warning)
                shown.add(step.warning)

        return train_detector(crops, config, progress), shown


def _report(summary: TrainSummary, shown: set[str], screen: Screen) -> None:
    from torchfakes_cli.cli.console.training_view import training_table, verdict_text

    screen.result(training_table(summary))
    if summary.test:
        screen.result(verdict_text(summary.test_verdicts))
    for warning in summary.warnings:
        if warning not in shown:
            screen.warning(warning)
    screen.note(f"checkpoints: {summary.best} (best) and {summary.last}; log.csv and curves.png beside them")
