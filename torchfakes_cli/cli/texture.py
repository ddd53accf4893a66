"""``torchfakes texture``: a detector gets a second judge, of the detail of faces, beside its network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.config import PrepareConfig, TextureConfig

_DEFAULT = TextureConfig(start="")


def texture_command(
    crops: Annotated[str, typer.Argument(metavar="CROPS", help="Folder written by 'torchfakes prepare'.")] = (
        PrepareConfig().out
    ),
    start: Annotated[
        str, typer.Option("--from", metavar="DETECTOR", help="Path or name of the detector that gets the texture.")
    ] = "runs/detector/best.safetensors",
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The new checkpoint.")] = _DEFAULT.out,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the new detector, as verdicts will show it.", show_default="the old one"),
    ] = _DEFAULT.name,
    frames_per_video: Annotated[
        int, typer.Option(metavar="N", help="At most so many crops of each person in each video.")
    ] = _DEFAULT.frames_per_video,
    cross_validate: Annotated[
        bool,
        typer.Option(
            "--cross-validate/--no-cross-validate",
            help="Measure the texture alone on groups, and on kinds of fakes, that it was fitted without.",
        ),
    ] = _DEFAULT.cross_validate,
    folds: Annotated[
        int, typer.Option(metavar="N", help="Of the calibration and the cross-validation.")
    ] = _DEFAULT.folds,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides everything random.")] = _DEFAULT.seed,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.")] = _DEFAULT.device,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is there.")] = _DEFAULT.force,
    debug: Annotated[bool, typer.Option("--debug", help="Show the log, and tracebacks of errors.")] = False,
) -> None:
    """Add a judge of texture to a trained detector.

    It compares the detail of a face, place by place, with that of real faces and of each kind of fake among the
    crops, and with real faces that are enlarged and sharpened as generators do. It is fitted and calibrated on the
    training and validation crops and joined with the network by the validation ones. It needs few videos and minutes.
    """
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.cli.console.texture_view import judged_text, left_out_table, texture_table
        from torchfakes_cli.cli.console.train_view import test_verdicts
        from torchfakes_cli.training import add_texture

        config = TextureConfig(
            start=start, out=out, name=name, frames_per_video=frames_per_video, cross_validate=cross_validate,
            folds=folds, seed=seed, device=device, force=force,
        )  # fmt: skip
        screen = Screen()
        with screen.progress("fitting a texture") as advance:
            summary = add_texture(Path(crops), config, lambda _what, done, wanted: advance(done, wanted))
        screen.result(texture_table(summary))
        if summary.alone_judged:
            screen.result(judged_text(summary.alone_judged))
        if summary.left_out:
            screen.result(left_out_table(summary))
        if summary.test:
            screen.result(test_verdicts(summary.test_verdicts))
        for warning in summary.warnings:
            screen.warning(warning)
        screen.note(f"checkpoint: {summary.path}")
