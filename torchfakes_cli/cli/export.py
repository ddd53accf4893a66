"""``torchfakes models export``: write a detector for programs without PyTorch."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from torchfakes_cli.cli.completion import detector_names
from torchfakes_cli.cli.exit_codes import guarded


class Precision(StrEnum):
    """Number formats of the files."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export_command(
    model: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Export this detector.", autocompletion=detector_names)
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|OUT.onnx",
            help="Write into this folder the detector, the face detector's three networks, a JSON file with what an "
            "app has to "
            "know, and an example in Python; or a file for the detector alone.",
        ),
    ],
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="Write the detector in this precision. An fp16 file is half as large as fp32, int8 a quarter.",
        ),
    ] = Precision.fp32,
    cascade_precision: Annotated[
        Precision | None,
        typer.Option(
            "--cascade-precision",
            help="Write the face detector in this precision.",
            show_default="the same; fp16 beside int8",
        ),
    ] = None,
    crops: Annotated[
        str | None,
        typer.Option(
            "--crops",
            metavar="FOLDER",
            help="Use these crops made by prepare: validation people calibrate int8, test people are compared.",
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            "--pictures",
            metavar="FOLDER",
            help="Use these pictures with faces: every second one calibrates int8, the others are compared. For the "
            "face "
            "detector, and without --crops for the detector as well.",
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the files even if they differ from torch more than they may.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the log, and tracebacks of errors.")] = False,
) -> None:
    """Write a detector as ONNX files and compare them with torch; needs the extra onnx.

    The detector's file takes RGB crops from 0 to 255 and gives their logits and probabilities: normalisation and
    calibration are part of it. Files whose answers are too far from torch's are not written.
    """
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.cli.console.export_view import boxes_words, files_table, scores_words, threads_words
        from torchfakes_cli.export.facts import without_nan
        from torchfakes_cli.export.folder import export_model

        screen = Screen()
        made = export_model(
            model,
            Path(out),
            precision=precision.value,
            cascade_precision=cascade_precision and cascade_precision.value,
            crops=Path(crops) if crops is not None else None,
            pictures=Path(pictures) if pictures is not None else None,
            force=force,
            accept=accept,
        )
        if json:
            document = json_format.dumps(without_nan(asdict(made)), indent=2, default=str)
            screen.line(document)
        else:
            screen.result(files_table(made))
            for score in made.scores:
                screen.line(scores_words(score))
            if made.boxes is not None:
                screen.line(boxes_words(made.boxes))
            screen.note(f"the detector takes crops {made.input_shape}, RGB from 0 to 255; more stands in {made.facts}")
            screen.note(
                f"differences are to torch, on random input; times are medians with {threads_words(made.threads)}"
            )
        for doubt in made.doubts:
            screen.warning(doubt)
