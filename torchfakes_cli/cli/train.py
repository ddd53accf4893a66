"""``torchfakes train``: from a folder of crops to a detector."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchfakes_cli.cli.completion import devices, starts, trackers
from torchfakes_cli.cli.exit_codes import ExitCode, guarded, show_error
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.config import (
    Augment,
    OptimizerName,
    Precision,
    PrepareConfig,
    Recipe,
    Sampling,
    Schedule,
    TrainConfig,
    train_recipe,
)

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.training.fit.summary import TrainProgress, TrainSummary

_START = "Start and length"
_DATA = "Data"
_NETWORK = "Network"
_RATE = "How it learns"
_MACHINE = "Machine"
_OUTPUT = "Output"

_DEFAULT = TrainConfig()


def train_command(
    crops: Annotated[str, typer.Argument(metavar="CROPS", help="Read the folder written by 'torchfakes prepare'.")] = (
        PrepareConfig().out
    ),
    recipe: Annotated[
        Recipe,
        typer.Option(
            rich_help_panel=_START,
            help="Set the defaults of all other options. The defaults shown are those of default; origin is the plain "
            "transfer learning of the project this one grew from.",
        ),
    ] = "default",
    start: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="WEIGHTS",
            rich_help_panel=_START,
            help="Set the initial weights: vggface2 (face recognition, fetched once), imagenet, scratch, a checkpoint "
            "of the same backbone, or a file with its trunk's tensors.",
            show_default="vggface2 with InceptionResnetV1, else imagenet",
            autocompletion=starts,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_START,
            help="Set the network: InceptionResnetV1, EfficientNetLite0 or timm:NAME.",
            show_default=str(_DEFAULT.backbone),
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_START,
            help="Train for N epochs; each is validated.",
            show_default=str(_DEFAULT.epochs),
        ),
    ] = None,
    samples_per_epoch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_START,
            help="Use N crops per epoch.",
            show_default="the balanced training crops",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            rich_help_panel=_START,
            help="Use N crops per update, half of them fake.",
            show_default=str(_DEFAULT.batch),
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_START,
            help="Also learn to match the features and logits of this checkpoint.",
            show_default="none",
            autocompletion=starts,
        ),
    ] = None,
    feature_epochs: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_START,
            help="Set the share of the training in which the features of the teacher weigh most.",
            show_default=str(_DEFAULT.feature_epochs),
        ),
    ] = None,
    sampling: Annotated[
        Sampling | None,
        typer.Option(
            rich_help_panel=_DATA,
            help="Draw pairs of a real and a fake face, person by person (balanced), or all balanced crops in random "
            "order (plain).",
            show_default=str(_DEFAULT.sampling),
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            rich_help_panel=_DATA,
            help="Set the shares of the pairs by method or collection, such as dfdc=0.6,film=0.1; the others share "
            "the rest.",
            show_default="by the square root of their sizes",
        ),
    ] = None,
    self_blend: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_DATA,
            help="Set the share of fakes made from real faces by blending.",
            show_default=str(_DEFAULT.self_blend),
        ),
    ] = None,
    augment: Annotated[
        Augment | None,
        typer.Option(
            rich_help_panel=_DATA,
            help="Set the augmentation: none, light, or strong (JPEG, H.264, blur, noise).",
            show_default=str(_DEFAULT.augment),
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=_DATA, help="Set the random seed.", show_default=str(_DEFAULT.seed)),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            rich_help_panel=_NETWORK,
            help="Set the side of the network's input.",
            show_default="the start's own, or 160",
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            rich_help_panel=_NETWORK,
            help="Let the input grow over the training, in equal shares, such as 96,128,160; the last is the "
            "detector's.",
            show_default="one size",
        ),
    ] = None,
    unit_range: Annotated[
        bool | None,
        typer.Option(
            "--unit-range/--standardised",
            rich_help_panel=_NETWORK,
            help="Give the network values from 0 to 1, or standardised ones.",
            show_default="standardised",
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_NETWORK,
            help="Drop this share of the features (dropout).",
            show_default="the backbone's own",
        ),
    ] = None,
    optimizer: Annotated[
        OptimizerName | None,
        typer.Option(rich_help_panel=_RATE, help="Set the optimizer.", show_default=str(_DEFAULT.optimizer)),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="X",
            rich_help_panel=_RATE,
            help="Set the peak learning rate.",
            show_default="0.0001, from scratch 0.001; of sgd 0.01 and 0.1",
        ),
    ] = None,
    schedule: Annotated[
        Schedule | None,
        typer.Option(
            rich_help_panel=_RATE,
            help="Set how the learning rate falls after the warm-up.",
            show_default=str(_DEFAULT.schedule),
        ),
    ] = None,
    warm_up: Annotated[
        float | None,
        typer.Option(
            "--warmup",
            metavar="SHARE",
            rich_help_panel=_RATE,
            help="Set the share of the updates in which the learning rate rises.",
            show_default=str(_DEFAULT.warm_up),
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Set the weight decay of the optimizer.",
            show_default=str(_DEFAULT.weight_decay),
        ),
    ] = None,
    ranking: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Set the weight of the loss that ranks a fake above its real counterpart.",
            show_default=str(_DEFAULT.ranking),
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY",
            rich_help_panel=_RATE,
            help="Set the decay of the moving average of the weights; 0 keeps the last weights.",
            show_default=str(_DEFAULT.ema),
        ),
    ] = None,
    stop_on_collapse: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_RATE,
            help="Stop after N epochs in a row in which all scores agree.",
            show_default="never",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_MACHINE,
            help="Run on auto, cpu, cuda or cuda:N.",
            show_default=str(_DEFAULT.device),
            autocompletion=devices,
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            rich_help_panel=_MACHINE,
            help="Set the precision: auto is bf16 where the machine supports it; fp16 needs CUDA.",
            show_default=str(_DEFAULT.precision),
        ),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_MACHINE,
            help="Process N crops at once and accumulate their gradients. Halved when memory runs out.",
            show_default="the batch",
        ),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile",
            rich_help_panel=_MACHINE,
            help="Let torch.compile speed up the network on CUDA.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_MACHINE,
            help="Set the number of processes that load and augment crops.",
            show_default="one less than there are cores; none on the CPU",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            rich_help_panel=_OUTPUT,
            help="Write checkpoints, log.csv and curves.png here.",
            show_default=str(_DEFAULT.out),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_OUTPUT,
            help="Set the name of the detector that verdicts show.",
            show_default=str(_DEFAULT.name),
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--logger",
            metavar="NAME",
            rich_help_panel=_OUTPUT,
            help="Report figures to tensorboard or wandb too; repeatable. wandb sends figures and settings to "
            "its server.",
            show_default="none",
            autocompletion=trackers,
        ),
    ] = None,
    save_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_OUTPUT,
            help="Save the training state at this interval, besides after each epoch; 0 for epochs alone.",
            show_default=str(_DEFAULT.save_minutes),
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume",
            rich_help_panel=_OUTPUT,
            help="Continue the interrupted training in the folder, with its settings.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool | None,
        typer.Option(
            "--force", rich_help_panel=_OUTPUT, help="Replace an earlier training in the folder.", show_default=False
        ),
    ] = None,
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
        given: dict[str, Any] = dict(  # noqa: C408 - names of settings, as options have them
            start=start,
            backbone=backbone,
            epochs=epochs,
            samples_per_epoch=samples_per_epoch,
            batch=batch,
            teacher=teacher,
            feature_epochs=feature_epochs,
            sampling=sampling,
            mix=parse_mix(mix),
            self_blend=self_blend,
            augment=augment,
            seed=seed,
            input_size=input_size,
            sizes=parse_sizes(sizes),
            unit_range=unit_range,
            dropout=dropout,
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
            warm_up=warm_up,
            weight_decay=weight_decay,
            ranking=ranking,
            ema=ema,
            stop_on_collapse=stop_on_collapse,
            device=device,
            precision=precision,
            micro_batch=micro_batch,
            compile=compile,
            workers=workers,
            out=out,
            name=name,
            track=tuple(track) if track else None,
            save_minutes=save_minutes,
            resume=resume,
            force=force,
        )
        config = _settled(recipe, {name: value for name, value in given.items() if value is not None})
        try:
            _train(crops, config)
        except KeyboardInterrupt:
            if _is_first():
                _show_how_to_resume(config)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def parse_sizes(text: str | None) -> tuple[int, ...] | None:
    """The sizes in a list such as ``96,128,160``.

    Raises:
        UsageError: it is no such list.
    """
    if text is None:
        return None
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(f"--sizes takes numbers such as 96,128,160, not {text!r}") from None


def parse_mix(text: str | None) -> dict[str, float] | None:
    """The shares in a list such as ``dfdc=0.6,film=0.1``.

    Raises:
        UsageError: it is no such list.
    """
    if text is None:
        return None
    try:
        return {name.strip(): float(share) for name, share in (pair.rsplit("=", 1) for pair in text.split(","))}
    except ValueError:
        raise UsageError(f"--mix takes shares such as dfdc=0.6,film=0.1, not {text!r}") from None


def _settled(recipe: str, given: dict[str, Any]) -> TrainConfig:
    """Apply the user's settings over those of the recipe, or of the resumed training."""
    if given.get("resume"):
        from torchfakes_cli.training.fit.state import saved_config

        return replace(saved_config(given.get("out", _DEFAULT.out)), **given)
    return replace(train_recipe(recipe), **given)


def _is_first() -> bool:
    """Whether this process reports for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _show_how_to_resume(config: TrainConfig) -> None:
    from pathlib import Path

    from torchfakes_cli.training.fit.state import STATE

    if (Path(config.out) / STATE).is_file():
        show_error(
            f"interrupted; go on with the same command and --resume, or: torchfakes train --resume -o {config.out}"
        )
    else:
        show_error("interrupted before there was anything to go on from")


def _train(crops: str, config: TrainConfig) -> None:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.cli.console.train_view import figure
    from torchfakes_cli.training.fit.train import train_detector

    screen = Screen(quiet=not _is_first())
    shown: set[str] = set()
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
                shown.add(step.warning)

        summary = train_detector(crops, config, progress)
    if _is_first():
        _show(summary, screen, shown)


def _show(summary: TrainSummary, screen: Screen, shown: set[str]) -> None:
    from torchfakes_cli.cli.console.train_view import test_verdicts, training_table

    screen.result(training_table(summary))
    if summary.test:
        screen.result(test_verdicts(summary.test_verdicts))
    for warning in summary.warnings:
        if warning not in shown:
            screen.warning(warning)
    screen.note(
        f"checkpoints: {summary.best} (best, calibrated) and {summary.last}; log.csv and curves.png beside them"
    )
