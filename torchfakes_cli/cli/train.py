"""``torchfakes train``: from a folder of crops to a detector."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.outcome import guarded
from torchfakes_cli.config import PrepareConfig, TrainConfig

if TYPE_CHECKING:
    from torchfakes_cli.training.train import TrainProgress

_START = "Start and length"
_DATA = "Data"
_NETWORK = "Network"
_OUTPUT = "Output"

_DEFAULT = TrainConfig()


class Augment(StrEnum):
    """How much pictures are changed while training."""

    NONE = "none"
    LIGHT = "light"
    STRONG = "strong"


_DEFAULT_AUGMENT = Augment(_DEFAULT.augment)


def train_command(
    crops: Annotated[str, typer.Argument(metavar="CROPS", help="Folder written by 'torchfakes prepare'.")] = (
        PrepareConfig().out
    ),
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="START",
            rich_help_panel=_START,
            help="vggface2 (face recognition weights, fetched once), scratch, or a checkpoint to go on from.",
        ),
    ] = _DEFAULT.start,
    epochs: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_START, help="How many epochs, each validated.")
    ] = _DEFAULT.epochs,
    samples_per_epoch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_START,
            help="Crops an epoch, half of them fake.",
            show_default="the balanced training crops",
        ),
    ] = _DEFAULT.samples_per_epoch,
    batch: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=_START, help="Crops a step, half of them fake.")
    ] = _DEFAULT.batch,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=_START,
            help="At its highest.",
            show_default="0.001 from scratch, else 0.0001",
        ),
    ] = _DEFAULT.learning_rate,
    self_blend: Annotated[
        float,
        typer.Option(
            metavar="SHARE", rich_help_panel=_DATA, help="Share of the fakes made from real faces by blending."
        ),
    ] = _DEFAULT.self_blend,
    augment: Annotated[
        Augment,
        typer.Option(rich_help_panel=_DATA, help="How much pictures are changed: not at all, lightly or strongly."),
    ] = _DEFAULT_AUGMENT,
    ramp: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_DATA,
            help="Share of the training over which compression and blur grow to their full strength.",
        ),
    ] = _DEFAULT.ramp,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_DATA,
            help="Processes that read and change pictures.",
            show_default="one less than there are cores",
        ),
    ] = _DEFAULT.workers,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=_DATA, help="Decides everything random.")] = (
        _DEFAULT.seed
    ),
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            rich_help_panel=_NETWORK,
            help="Side of the network's input.",
            show_default="the start's own, or 160",
        ),
    ] = _DEFAULT.input_size,
    dropout: Annotated[
        float, typer.Option(metavar="SHARE", rich_help_panel=_NETWORK, help="Share of the features left out.")
    ] = _DEFAULT.dropout,
    ranking: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_NETWORK,
            help="Weight of the loss that wants a fake to score above the real face it came with.",
        ),
    ] = _DEFAULT.ranking,
    device: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=_NETWORK, help="auto, cpu, cuda or cuda:N.")
    ] = _DEFAULT.device,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", rich_help_panel=_OUTPUT, help="For checkpoints and the log.")
    ] = _DEFAULT.out,
    name: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=_OUTPUT, help="Of the detector, as verdicts will show it.")
    ] = _DEFAULT.name,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=_OUTPUT, help="Replace an earlier training in the folder.")
    ] = _DEFAULT.force,
    debug: Annotated[
        bool, typer.Option("--debug", rich_help_panel=_OUTPUT, help="Show the log, and tracebacks of errors.")
    ] = False,
) -> None:
    """Train a detector on face crops.

    Each epoch is validated on people the network doesn't train on. The best and the last checkpoint are kept; the best
    is calibrated, measured on the test groups and ready for 'torchfakes scan --model'.
    """
    with guarded(debug=debug):
        config = TrainConfig(
            out=out,
            name=name,
            start=start,
            epochs=epochs,
            samples_per_epoch=samples_per_epoch,
            batch=batch,
            learning_rate=learning_rate,
            dropout=dropout,
            input_size=input_size,
            self_blend=self_blend,
            augment=augment.value,
            ramp=ramp,
            ranking=ranking,
            workers=workers,
            seed=seed,
            device=device,
            force=force,
        )
        _train(crops, config)


def _train(crops: str, config: TrainConfig) -> None:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.cli.console.train_view import figure, test_verdicts, training_table
    from torchfakes_cli.training import train_detector

    screen = Screen()
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
                told.add(f"epoch {step.epoch}: {step.warning}")

        summary = train_detector(crops, config, progress)
    screen.result(training_table(summary))
    if summary.test:
        screen.result(test_verdicts(summary))
    for warning in summary.warnings:
        if warning not in told:
            screen.warning(warning)
    screen.note(f"checkpoints: {summary.best} (best, calibrated) and {summary.last}")
