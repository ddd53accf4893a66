"""``torchfakes models …``: list, show, verify, import, fetch, remove and export detectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import Debug, Json, detectors, one_of, option
from torchfakes_cli.detector.registry import PUBLISHED
from torchfakes_cli.errors import ModelError

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.detector.import_weights import Imported

Precision = Literal["fp32", "fp16", "int8"]

_INPUT = "Input"
_Name = Annotated[str, option(None, None, "Give the detector this name.", "--name", default="the file's")]
_Licence = Annotated[str, option(None, None, "Record this license of the weights.", "--licence", default="unknown")]
_Preset = Annotated[
    Literal["origin", "standardised"] | None,
    option(
        None,
        None,
        "Set all input options at once. origin: the face's box without margin at 160 pixels, enlarged to 256, "
        "values from 0 to 1. standardised: a square of 1.3 times the box at 160 pixels, standardized values.",
        default="by the file's format and its weights",
    ),
]
_InputSize = Annotated[int | None, option(_INPUT, None, "Set the side of the network's input.")]
_CropSize = Annotated[
    int | None,
    option(_INPUT, None, "Resize crops to this side before they are enlarged to the input; 0 to skip it."),
]
_Margin = Annotated[float | None, option(_INPUT, None, "Enlarge a face's box by this factor for its crop.")]
_Shape = Annotated[
    Literal["square", "box"] | None,
    option(_INPUT, None, "Crop a square around the box, or the box itself, stretched."),
]
_UnitRange = Annotated[
    bool | None,
    option(_INPUT, None, "Scale values to 0 to 1, or standardize them.", "--unit-range/--standardised"),
]


def list_command(json: Json = False, debug: Debug = False) -> None:
    """List the installed detectors and those that can be fetched by name.

    Examples:
        torchfakes models list
        torchfakes models list --json
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console import texts_table
        from torchfakes_cli.cli.console.models_view import threshold_words
        from torchfakes_cli.detector.checkpoint import load_header
        from torchfakes_cli.detector.registry import SHIPPED_NAME, installed, models_folder, shipped_checkpoint

        here = {SHIPPED_NAME: shipped_checkpoint(), **installed()}
        rows: list[tuple[str, str, str, str]] = []
        for name, path in here.items():
            where = "ships" if name == SHIPPED_NAME else "here"
            try:
                header = load_header(path)
                rows.append((name, where, threshold_words(header), header.licence or "unknown"))
            except ModelError as error:
                rows.append((name, "broken", error.cause, ""))
        others = {name: known for name, known in PUBLISHED.items() if name not in here}
        rows += [(name, "can be fetched", known.about, known.licence) for name, known in others.items()]
        if json:
            found = [
                {"name": name, "state": state, "about": about, "licence": licence, "path": here.get(name)}
                for name, state, about, licence in rows
            ]
            screen.json({"folder": models_folder(), "detectors": found})
        else:
            screen.result(texts_table(("name", "", "verdicts", "license"), {"": rows}))
            screen.note(f"others are kept in {models_folder()}")


def show_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="Show this detector.",
            show_default="the one that ships",
            autocompletion=detectors,
        ),
    ] = "torchfakes",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a detector's input, training, metrics and license, and the model card of the one that ships.

    Examples:
        torchfakes models show
        torchfakes models show origin
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console.models_view import header_words, show_card, show_header
        from torchfakes_cli.detector.checkpoint import load_header
        from torchfakes_cli.detector.registry import find_checkpoint, model_card, recorded_checksum
        from torchfakes_cli.files import sha256_of

        path = find_checkpoint(model)
        header, found = load_header(path), sha256_of(path)
        card = model_card(path)
        if json:
            about = {"path": path, "sha256": found, "recorded_sha256": recorded_checksum(path)}
            screen.json({**about, "header": asdict(header), "card": card})
            return
        show_header(screen, {"file": {"path": str(path), "SHA-256": found}, **header_words(header)})
        if card is not None:
            screen.line("")
            show_card(screen, card)


def verify_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|FILE]...",
            help="Verify these detectors.",
            show_default="all installed ones",
            autocompletion=detectors,
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Verify checksums, load the weights and score a crop; exit with code 1 if a check fails.

    Examples:
        torchfakes models verify
        torchfakes models verify mine.safetensors
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console import texts_table
        from torchfakes_cli.cli.console.models_view import checksum_words
        from torchfakes_cli.detector.registry import SHIPPED_NAME, installed, verify_detector

        checked = [verify_detector(name) for name in models or [SHIPPED_NAME, *installed()]]
        if json:
            document = [
                {
                    "name": one.name,
                    "path": one.path,
                    "sha256": one.sha256 or None,
                    "recorded_sha256": one.recorded or None,
                    "right": not one.problem,
                    "problem": one.problem or None,
                }
                for one in checked
            ]
            screen.json(document)
        else:
            rows = [(one.name, "wrong" if one.problem else "right", checksum_words(one)) for one in checked]
            screen.result(texts_table(("name", "", "checksum"), {"": rows}))
        for one in checked:
            if one.problem:
                screen.error(f"{one.name}: {one.problem}")
        raise typer.Exit(ExitCode.FAILED if any(one.problem for one in checked) else ExitCode.DONE)


def import_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Import this .pth or .safetensors file.")],
    name: _Name = "",
    preset: _Preset = None,
    input_size: _InputSize = None,
    crop_size: _CropSize = None,
    margin: _Margin = None,
    crop_shape: _Shape = None,
    unit_range: _UnitRange = None,
    licence: _Licence = "",
    force: Annotated[bool, option(None, None, "Replace a detector of this name.", "--force")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Import weights of InceptionResnetV1 with one logit, and set the input that they expect.

    No code in the file is run: only tensors are read, checked, and written as a checkpoint in the models folder.

    Examples:
        torchfakes models import resnetinceptionv1_epoch_32.pth --name theirs --preset origin
        torchfakes models import weights.pth --input-size 224 --unit-range
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.detector.import_weights import import_weights

        changes = _changes(context)
        made = import_weights(file, name, preset=preset, changes=changes, licence=licence, force=force)
        _report_import(screen, made, json=json)


def fetch_command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL|hf:REPO",
            help="Fetch this detector: a name from models list, a URL, or hf:OWNER/NAME on Hugging Face, followed by "
            "@REVISION and /FILE where needed (a space: hf:spaces/OWNER/NAME/FILE).",
            autocompletion=one_of(*PUBLISHED),
        ),
    ],
    name: _Name = "",
    sha256: Annotated[
        str, option(None, None, "Require this SHA-256 of the file.", "--sha256", default="that of the first download")
    ] = "",
    preset: _Preset = None,
    input_size: _InputSize = None,
    crop_size: _CropSize = None,
    margin: _Margin = None,
    crop_shape: _Shape = None,
    unit_range: _UnitRange = None,
    licence: _Licence = "",
    force: Annotated[
        bool,
        option(
            None, None, "Fetch again, ignore the recorded checksum, and replace a detector of this name.", "--force"
        ),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Download a detector, check its checksum and import it.

    Proxies are taken from HTTPS_PROXY, a mirror of Hugging Face from HF_ENDPOINT. If no checksum is known, that of the
    first download is recorded.

    Examples:
        torchfakes models fetch origin
        torchfakes models fetch hf:OWNER/NAME/weights.safetensors --name theirs
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.detector.download import fetch_detector

        with screen.progress(f"fetching {source} (MiB)") as advance:
            made = fetch_detector(
                source,
                name,
                sha256=sha256,
                preset=preset,
                changes=_changes(context),
                licence=licence,
                force=force,
                progress=lambda done, wanted: advance(done >> 20, wanted and wanted >> 20),
            )
        _report_import(screen, made, json=json)


def remove_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Remove this detector.", autocompletion=detectors)],
    debug: Debug = False,
) -> None:
    """Remove an imported or fetched detector from the models folder, without asking.

    Examples:
        torchfakes models remove mine
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.detector.registry import remove_detector

        screen.note(f"removed {remove_detector(name)}")


def export_command(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Export this detector.", autocompletion=detectors)],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|OUT.onnx",
            help="Write the detector, the face detector's three networks and a JSON description into this folder, or "
            "the detector alone into this file.",
        ),
    ],
    precision: Annotated[
        Precision,
        option(
            None, None, "Write the detector in this precision. An fp16 file is half as large as fp32, int8 a quarter."
        ),
    ] = "fp32",
    cascade_precision: Annotated[
        Precision | None,
        option(None, None, "Write the face detector in this precision.", default="the same; fp16 beside int8"),
    ] = None,
    crops: Annotated[
        Path | None,
        option(
            None,
            "FOLDER",
            "Use these crops made by prepare: validation people calibrate int8, test people are compared.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        option(
            None,
            "FOLDER",
            "Use these pictures with faces: every second one calibrates int8, the others are compared. They serve "
            "the face detector, and without --crops the detector as well.",
        ),
    ] = None,
    accept: Annotated[
        bool, option(None, None, "Write the files even if they differ from torch more than they may.", "--accept")
    ] = False,
    force: Annotated[bool, option(None, None, "Replace files.", "--force")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a detector as ONNX files and compare them with torch; needs the extra onnx.

    The detector's file takes RGB crops from 0 to 255 and gives their logits and probabilities: normalization and
    calibration are part of it. Files that differ too much from torch are not written.

    Examples:
        torchfakes models export torchfakes detector.onnx
        torchfakes models export torchfakes app/ --precision int8 --pictures pictures/
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console.models_view import show_export
        from torchfakes_cli.export.folder import export_model, without_nan

        made = export_model(
            model,
            out,
            precision=precision,
            cascade_precision=cascade_precision,
            crops=crops,
            pictures=pictures,
            force=force,
            accept=accept,
        )
        if json:
            screen.json(without_nan(asdict(made)))
        else:
            show_export(screen, made)
        for doubt in made.doubts:
            screen.warning(doubt)


MODELS_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_command,
    "show": show_command,
    "verify": verify_command,
    "import": import_command,
    "fetch": fetch_command,
    "remove": remove_command,
    "export": export_command,
}


def _changes(context: typer.Context) -> dict[str, int | float | str]:
    """Return the given options of the preprocessing by their names in the header."""
    from torchfakes_cli.detector.import_weights import UNIT_RANGE
    from torchfakes_cli.detector.preprocess import MEAN, SCALE

    options = {name: context.params[name] for name in ("input_size", "crop_size", "margin", "crop_shape")}
    changes = {name: value for name, value in options.items() if value is not None}
    if (unit_range := context.params["unit_range"]) is not None:
        changes["mean"], changes["scale"] = UNIT_RANGE if unit_range else (MEAN, SCALE)
    return changes


def _report_import(screen: Screen, made: Imported, *, json: bool) -> None:
    from torchfakes_cli.cli.console.models_view import input_words

    if json:
        about = {"name": made.name, "path": made.path, "header": asdict(made.header)}
        screen.json({**about, "notes": made.notes, "warnings": made.doubts})
    else:
        screen.line(f"{made.name}: {made.path}")
        screen.line(f"it expects {input_words(made.header)}; a logit above zero is fake")
        for note in made.notes:
            screen.note(note)
    for doubt in made.doubts:
        screen.warning(doubt)
