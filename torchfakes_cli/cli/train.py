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
    crops: Annotated[
        str, typer.Argument(metavar="CROPS", help="Train on the crops of this folder, written by 'torchfakes prepare'.")
    ] = (PrepareConfig().out),
    recipe: Annotated[
        Recipe,
        typer.Option(
            rich_help_panel=_START,
            help="Start from this set of settings. The defaults shown are those of default; origin is the plain "
            "transfer learning of the project this one grew from.",
        ),
    ] = "default",
    start: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "--from",
            metavar="WEIGHTS",
            rich_help_panel=_START,
            help="Start from these weights: vggface2 (face recognition, fetched once), imagenet, scratch, a checkpoint "
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
            help="Train this network: InceptionResnetV1, EfficientNetLite0 or timm:NAME.",
            show_default=str(_DEFAULT.backbone),
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_START,
            help="Train for this many epochs, each validated.",
            show_default=str(_DEFAULT.epochs),
        ),
    ] = None,
    samples_per_epoch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_START,
            help="Use this many crops an epoch.",
            show_default="the balanced training crops",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_START,
            help="Use this many crops an update, half of them fake.",
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
            help="Use this share of a training with a teacher mostly for its features.",
            show_default=str(_DEFAULT.feature_epochs),
        ),
    ] = None,
    sampling: Annotated[
        Sampling | None,
        typer.Option(
            rich_help_panel=_DATA,
            help="Sample crops like this: balanced draws pairs of a real face and a fake one, person by person; "
            "plain goes through the "
            "balanced crops in random order.",
            show_default=str(_DEFAULT.sampling),
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            rich_help_panel=_DATA,
            help="Set shares of the pairs by method or collection, such as dfdc=0.6,film=0.1; the others share the "
            "rest.",
            show_default="by the square root of their sizes",
        ),
    ] = None,
    self_blend: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_DATA,
            help="Make this share of the fakes from real faces by blending.",
            show_default=str(_DEFAULT.self_blend),
        ),
    ] = None,
    augment: Annotated[
        Augment | None,
        typer.Option(
            rich_help_panel=_DATA,
            help="Augment pictures: not at all, lightly, or strongly (JPEG, H.264, blur, noise).",
            show_default=str(_DEFAULT.augment),
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=_DATA, help="Use this random seed.", show_default=str(_DEFAULT.seed)),
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
            help="Drop this share of the features.",
            show_default="the backbone's own",
        ),
    ] = None,
    optimizer: Annotated[
        OptimizerName | None,
        typer.Option(rich_help_panel=_RATE, help="Use this optimizer.", show_default=str(_DEFAULT.optimizer)),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
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
            help="Lower the learning rate like this after the warm-up.",
            show_default=str(_DEFAULT.schedule),
        ),
    ] = None,
    warm_up: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_RATE,
            help="Raise the learning rate over this share of the updates.",
            show_default=str(_DEFAULT.warm_up),
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Set the optimizer's weight decay.",
            show_default=str(_DEFAULT.weight_decay),
        ),
    ] = None,
    ranking: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=_RATE,
            help="Weight the ranking loss, by which a fake scores above its paired real face.",
            show_default=str(_DEFAULT.ranking),
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY",
            rich_help_panel=_RATE,
            help="Set the decay of the running average of the weights that is kept; 0 for the last weights.",
            show_default=str(_DEFAULT.ema),
        ),
    ] = None,
    stop_on_collapse: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_RATE,
            help="Give up after N epochs in a row with one output for all crops.",
            show_default="never",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_MACHINE,
            help="Compute on this device: auto, cpu, cuda or cuda:N.",
            show_default=str(_DEFAULT.device),
            autocompletion=devices,
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            rich_help_panel=_MACHINE,
            help="Compute in this precision; auto is bf16 if the machine supports it, fp16 is for CUDA.",
            show_default=str(_DEFAULT.precision),
        ),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_MACHINE,
            help="Process this many crops at once and add up their gradients. Halved when memory runs out.",
            show_default="the batch",
        ),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile",
            rich_help_panel=_MACHINE,
            help="Speed up the network on CUDA with torch.compile.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_MACHINE,
            help="Read and augment pictures in this many processes.",
            show_default="one less than there are cores; none on the CPU",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            rich_help_panel=_OUTPUT,
            help="Write checkpoints, log.csv and curves.png into this folder.",
            show_default=str(_DEFAULT.out),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_OUTPUT,
            help="Give the detector this name, shown with verdicts.",
            show_default=str(_DEFAULT.name),
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_OUTPUT,
            help="Report figures to tensorboard or wandb too; may be repeated. wandb sends figures and settings to "
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
            help="Save the training state this often, besides after each epoch; 0 for after epochs only.",
            show_default=str(_DEFAULT.save_minutes),
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume",
            rich_help_panel=_OUTPUT,
            help="Resume the interrupted training in the folder, with its settings.",
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
    """Parse the sizes in a list such as ``96,128,160``.

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
    """Parse the shares in a list such as ``dfdc=0.6,film=0.1``.

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
    """Return the user's settings over those of the recipe or of the resumed training."""
    if given.get("resume"):
        from torchfakes_cli.training.fit.state import saved_config

        return replace(saved_config(given.get("out", _DEFAULT.out)), **given)
    return replace(train_recipe(recipe), **given)


def _is_first() -> bool:
    """True in the process that prints for all processes of torchrun."""
    return os.environ.get("RANK", "0") == "0"


def _show_how_to_resume(config: TrainConfig) -> None:
    from pathlib import Path

    from torchfakes_cli.training.fit.state import STATE

    if (Path(config.out) / STATE).is_file():
        show_error(
            f"interrupted; go on with the same command and --resume, or: torchfakes train --resume --out {config.out}"
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
