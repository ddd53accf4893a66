"""``torchfakes train``: from a folder of crops to a detector."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchfakes_cli.cli.completion import devices, starts
from torchfakes_cli.cli.exit_codes import ExitCode, guarded, show_error
from torchfakes_cli.config import PrepareConfig, TrainConfig, train_recipe

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.training.fitting.outcome import TrainProgress, TrainSummary

_START = "Start and length"
_DATA = "Data"
_NETWORK = "Network"
_RATE = "How it learns"
_MACHINE = "Machine"
_OUTPUT = "Output"

_DEFAULT = TrainConfig()


class Recipe(StrEnum):
    """A whole way to train."""

    DEFAULT = "default"
    ORIGIN = "origin"


class Sampling(StrEnum):
    """In which order crops are drawn."""

    BALANCED = "balanced"
    PLAIN = "plain"


class Augment(StrEnum):
    """How much pictures are changed while training."""

    NONE = "none"
    LIGHT = "light"
    STRONG = "strong"


class Optimizer(StrEnum):
    """What moves the weights."""

    ADAMW = "adamw"
    ADAM = "adam"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate falls."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Precision(StrEnum):
    """What is computed in."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class Tracker(StrEnum):
    """Who else is told the figures."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


_DEFAULT_SAMPLING = Sampling(_DEFAULT.sampling)
_DEFAULT_AUGMENT = Augment(_DEFAULT.augment)
_DEFAULT_OPTIMIZER = Optimizer(_DEFAULT.optimizer)
_DEFAULT_SCHEDULE = Schedule(_DEFAULT.schedule)
_DEFAULT_PRECISION = Precision(_DEFAULT.precision)


def train_command(
    context: typer.Context,
    crops: Annotated[str, typer.Argument(metavar="CROPS", help="Folder written by 'torchfakes prepare'.")] = (
        PrepareConfig().out
    ),
    recipe: Annotated[
        Recipe,
        typer.Option(
            rich_help_panel=_START,
            help="Where all other options start from. The defaults shown are those of default; origin is the plain "
            "transfer learning of the project this one grew from.",
        ),
    ] = Recipe.DEFAULT,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="START",
            rich_help_panel=_START,
            help="vggface2 (face recognition weights, fetched once), scratch, or a checkpoint to go on from.",
            autocompletion=starts,
        ),
    ] = _DEFAULT.start,
    epochs: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_START, help="How many epochs, each validated.")
    ] = _DEFAULT.epochs,
    samples_per_epoch: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=_START, help="Crops an epoch.", show_default="the balanced training crops"
        ),
    ] = _DEFAULT.samples_per_epoch,
    batch: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_START, help="Crops an update, half of them fake.")
    ] = _DEFAULT.batch,
    sampling: Annotated[
        Sampling,
        typer.Option(
            rich_help_panel=_DATA,
            help="balanced draws couples of a real face and a fake one, person by person; plain goes through the "
            "balanced crops in random order.",
        ),
    ] = _DEFAULT_SAMPLING,
    self_blend: Annotated[
        float,
        typer.Option(
            metavar="SHARE", rich_help_panel=_DATA, help="Share of the fakes made from real faces by blending."
        ),
    ] = _DEFAULT.self_blend,
    augment: Annotated[
        Augment,
        typer.Option(
            rich_help_panel=_DATA,
            help="How much pictures are changed: not at all, lightly, or strongly (JPEG, H.264, blur, noise).",
        ),
    ] = _DEFAULT_AUGMENT,
    ramp: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_DATA,
            help="Share of the training over which compression and blur grow to their full strength.",
        ),
    ] = _DEFAULT.ramp,
    seed: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_DATA, help="Decides everything random.")
    ] = _DEFAULT.seed,
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            rich_help_panel=_NETWORK,
            help="Side of the network's input.",
            show_default="the start's own, or 160",
        ),
    ] = _DEFAULT.input_size,
    unit_range: Annotated[
        bool,
        typer.Option(
            "--unit-range/--standardised",
            rich_help_panel=_NETWORK,
            help="Whether the network gets values from 0 to 1 or standardised ones.",
        ),
    ] = _DEFAULT.unit_range,
    dropout: Annotated[
        float, typer.Option(metavar="SHARE", rich_help_panel=_NETWORK, help="Share of the features left out.")
    ] = _DEFAULT.dropout,
    freeze: Annotated[
        int,
        typer.Option(
            metavar="N", rich_help_panel=_NETWORK, help="The first N of the network's 9 blocks keep their weights."
        ),
    ] = _DEFAULT.freeze,
    freeze_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=_NETWORK, help="... for so many epochs.", show_default="the whole training"
        ),
    ] = _DEFAULT.freeze_epochs,
    optimizer: Annotated[
        Optimizer, typer.Option(rich_help_panel=_RATE, help="What moves the weights.")
    ] = _DEFAULT_OPTIMIZER,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="At its highest.",
            show_default="0.0001, from scratch 0.001; of sgd 0.01 and 0.1",
        ),
    ] = _DEFAULT.learning_rate,
    schedule: Annotated[
        Schedule, typer.Option(rich_help_panel=_RATE, help="How the learning rate falls after its rise.")
    ] = _DEFAULT_SCHEDULE,
    warm_up: Annotated[
        float,
        typer.Option(
            metavar="SHARE", rich_help_panel=_RATE, help="Share of the updates over which the learning rate rises."
        ),
    ] = _DEFAULT.warm_up,
    layer_decay: Annotated[
        float,
        typer.Option(
            metavar="FACTOR",
            rich_help_panel=_RATE,
            help="The learning rate falls by this from each block to the one before it.",
        ),
    ] = _DEFAULT.layer_decay,
    weight_decay: Annotated[
        float, typer.Option(metavar="X", rich_help_panel=_RATE, help="Of the optimizer.")
    ] = _DEFAULT.weight_decay,
    sam_rho: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Radius of sharpness-aware minimisation, such as 0.05; takes twice as long. 0 for none.",
        ),
    ] = _DEFAULT.sam_rho,
    ranking: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Weight of the loss that wants a fake to score above the real face it came with.",
        ),
    ] = _DEFAULT.ranking,
    mask_loss: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Weight of the loss that wants the network to tell where a face was manipulated, where that is known.",
        ),
    ] = _DEFAULT.mask_loss,
    label_smoothing: Annotated[
        float, typer.Option(metavar="SHARE", rich_help_panel=_RATE, help="Ask for so much less than certainty.")
    ] = _DEFAULT.label_smoothing,
    ema: Annotated[
        float,
        typer.Option(
            metavar="DECAY",
            rich_help_panel=_RATE,
            help="Of the running average of the weights that is kept; 0 for the last weights.",
        ),
    ] = _DEFAULT.ema,
    stop_on_collapse: Annotated[
        int,
        typer.Option(
            metavar="N",
            rich_help_panel=_RATE,
            help="Give up after N epochs in a row with one answer for all.",
            show_default="never",
        ),
    ] = _DEFAULT.stop_on_collapse,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME", rich_help_panel=_MACHINE, help="auto, cpu, cuda or cuda:N.", autocompletion=devices
        ),
    ] = _DEFAULT.device,
    precision: Annotated[
        Precision,
        typer.Option(rich_help_panel=_MACHINE, help="auto is bf16 where the machine computes in it; fp16 is for CUDA."),
    ] = _DEFAULT_PRECISION,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_MACHINE,
            help="Crops at once, whose gradients add up to the batch's. Halved when memory runs out.",
            show_default="the batch",
        ),
    ] = _DEFAULT.micro_batch,
    compile: Annotated[
        bool, typer.Option("--compile", rich_help_panel=_MACHINE, help="Let torch.compile quicken the network on CUDA.")
    ] = _DEFAULT.compile,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_MACHINE,
            help="Processes that read and change pictures.",
            show_default="one less than there are cores",
        ),
    ] = _DEFAULT.workers,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=_OUTPUT, help="For checkpoints, log.csv and curves.png."
        ),
    ] = _DEFAULT.out,
    name: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=_OUTPUT, help="Of the detector, as verdicts will show it.")
    ] = _DEFAULT.name,
    track: Annotated[
        list[Tracker] | None,
        typer.Option(
            rich_help_panel=_OUTPUT,
            help="Tell another program too; may be given again. wandb sends figures and settings to its server.",
            show_default="none",
        ),
    ] = None,
    save_minutes: Annotated[
        float,
        typer.Option(
            metavar="N",
            rich_help_panel=_OUTPUT,
            help="Save what resuming needs this often, besides after each epoch; 0 for epochs alone.",
        ),
    ] = _DEFAULT.save_minutes,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=_OUTPUT,
            help="Go on with the training that was interrupted in the folder, with its settings.",
        ),
    ] = _DEFAULT.resume,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=_OUTPUT, help="Replace an earlier training in the folder.")
    ] = _DEFAULT.force,
    debug: Annotated[
        bool, typer.Option("--debug", rich_help_panel=_OUTPUT, help="Show the log, and tracebacks of errors.")
    ] = False,
) -> None:
    """Train a detector on face crops.

    Each epoch is validated on people the network doesn't train on. The best and the last checkpoint are kept; the best
    is calibrated, measured on the test groups and ready for 'torchfakes scan --model'. Several GPUs: torchrun
    --standalone --nproc-per-node N -m torchfakes_cli train CROPS.
    """
    with guarded(debug=debug):
        config = _settled(recipe.value, out, _given(context), resume=resume)
        try:
            _train(crops, config)
        except KeyboardInterrupt:
            if _is_first():
                _tell_of_resuming(config)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _given(context: typer.Context) -> dict[str, Any]:
    """The settings that the user gave, by the configuration's names."""
    given = {}
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if name in ("crops", "recipe", "debug") or source is None or source.name == "DEFAULT":
            continue
        if isinstance(value, list | tuple):
            value = tuple(str(one) for one in value)
        given[name] = str(value) if isinstance(value, StrEnum) else value
    return given


def _settled(recipe: str, out: str, given: dict[str, Any], *, resume: bool) -> TrainConfig:
    """What the user gave, and the rest from the recipe or from the training that goes on."""
    if resume:
        from torchfakes_cli.training import saved_config

        return replace(saved_config(out), **{"out": out, "force": False, **given})
    return replace(train_recipe(recipe), **given)


def _is_first() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _tell_of_resuming(config: TrainConfig) -> None:
    from pathlib import Path

    from torchfakes_cli.training import STATE

    if (Path(config.out) / STATE).is_file():
        show_error(
            f"interrupted; go on with the same command and --resume, or: torchfakes train --resume --out {config.out}"
        )
    else:
        show_error("interrupted before there was anything to go on from")


def _train(crops: str, config: TrainConfig) -> None:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.cli.console.train_view import figure
    from torchfakes_cli.training import train_detector

    screen = Screen(quiet=not _is_first())
    told: set[str] = set()
    with screen.progress("training") as advance:

        def progress(step: TrainProgress) -> None:
            advance(step.samples, step.samples_wanted)
            if step.validation:
                scores = step.validation
                screen.note(
                    f"epoch {step.epoch}: loss {step.loss:.3f}, accuracy {step.accuracy:.3f}; "
                    f"validation AUC {figure(scores.frame_auc)} by frame, {figure(scores.video_auc)} by video"
                )
            if step.warning:
                screen.warning(step.warning)
                told.add(step.warning)

        summary = train_detector(crops, config, progress)
    if _is_first():
        _show(summary, screen, told)


def _show(summary: TrainSummary, screen: Screen, told: set[str]) -> None:
    from torchfakes_cli.cli.console.train_view import test_verdicts, training_table

    screen.result(training_table(summary))
    if summary.test:
        screen.result(test_verdicts(summary.test_verdicts))
    for warning in summary.warnings:
        if warning not in told:
            screen.warning(warning)
    screen.note(
        f"checkpoints: {summary.best} (best, calibrated) and {summary.last}; log.csv and curves.png beside them"
    )
