"""``torchfakes models …``: list, show, verify, import, fetch and export detectors."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.completion import detector_names, fetchable_names
from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.export import export_command
from torchfakes_cli.errors import ModelError

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.detector.import_weights import Imported
    from torchfakes_cli.detector.registry import Verified


class Preset(StrEnum):
    """Presets of the preprocessing."""

    origin = "origin"
    standardised = "standardised"


class CropShape(StrEnum):
    """Shapes of the crop around a face."""

    square = "square"
    box = "box"


_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the log, and tracebacks of errors.")]
_Name = Annotated[str, typer.Option("--name", help="Call the detector by this name.", show_default="the file's")]
_Licence = Annotated[str, typer.Option("--licence", help="Record this licence of the weights.", show_default="unknown")]
_PresetOption = Annotated[
    Preset | None,
    typer.Option(
        "--preset",
        help="Preprocess crops like this: as the origin did (the box without margin at 160 pixels, enlarged to 256, "
        "values "
        "from 0 to 1), or as here (a square of 1.3 times the box at 160 pixels, standardised).",
        show_default="by the file's format and what the weights remember",
    ),
]
_InputSize = Annotated[
    int | None, typer.Option("--input-size", help="Set the side of the network's input.", rich_help_panel="Input")
]
_CropSize = Annotated[
    int | None,
    typer.Option("--crop-size", help="Resize crops to this side before they are enlarged; 0 for no such step.",
                 rich_help_panel="Input"),
]  # fmt: skip
_Margin = Annotated[
    float | None,
    typer.Option("--margin", help="Enlarge a face's box by this factor into its crop.", rich_help_panel="Input"),
]
_Shape = Annotated[
    CropShape | None,
    typer.Option(
        "--crop-shape", help="Crop a square around the box, or the box itself, stretched.", rich_help_panel="Input"
    ),
]
_UnitRange = Annotated[
    bool | None,
    typer.Option(
        "--unit-range/--standardised",
        help="Give the network values from 0 to 1, or standardised ones.",
        rich_help_panel="Input",
    ),
]


def list_command(json: _Json = False, debug: _Debug = False) -> None:
    """List the installed detectors, and those that can be fetched by name."""
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.cli.console.models_view import rows_table
        from torchfakes_cli.detector.checkpoint import load_header
        from torchfakes_cli.detector.model_info import threshold_words
        from torchfakes_cli.detector.registry import (
            PUBLISHED,
            SHIPPED_NAME,
            installed,
            models_folder,
            shipped_checkpoint,
        )

        screen = Screen()
        here = {SHIPPED_NAME: shipped_checkpoint(), **installed()}
        rows: list[tuple[str, str, str, str]] = []
        for name, path in here.items():
            where = "ships" if name == SHIPPED_NAME else "here"
            try:
                header = load_header(path)
                rows.append((name, where, threshold_words(header), header.licence or "unknown"))
            except ModelError as error:
                rows.append((name, "broken", error.cause, ""))
        for name, known in PUBLISHED.items():
            if name not in here:
                rows.append((name, "can be fetched", known.about, known.licence))
        if json:
            columns = ("name", "state", "about", "licence")
            found = [
                {**dict(zip(columns, row, strict=True)), "path": str(here[row[0]]) if row[0] in here else None}
                for row in rows
            ]
            screen.line(json_format.dumps({"folder": str(models_folder()), "detectors": found}, indent=2))
        else:
            screen.result(rows_table(("name", "", "verdicts", "licence"), rows))
            screen.note(f"others are kept in {models_folder()}")


def show_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="Show this detector.",
            show_default="the one that ships",
            autocompletion=detector_names,
        ),
    ] = "torchfakes",
    json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Show a detector's input, training, metrics and licence.

    For the detector that ships, its model card follows.
    """
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.cli.console.models_view import show_card, show_header
        from torchfakes_cli.detector.checkpoint import load_header
        from torchfakes_cli.detector.download import recorded_checksum
        from torchfakes_cli.detector.model_info import header_words
        from torchfakes_cli.detector.registry import find_checkpoint, model_card
        from torchfakes_cli.files import sha256_of

        screen = Screen()
        path = find_checkpoint(model)
        header, found = load_header(path), sha256_of(path)
        card = model_card(path)
        if json:
            document = {
                "path": str(path),
                "sha256": found,
                "recorded_sha256": recorded_checksum(path),
                "header": asdict(header),
                "card": card,
            }
            screen.line(json_format.dumps(document, indent=2, ensure_ascii=False))
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
            show_default="all that are here",
            autocompletion=detector_names,
        ),
    ] = None,
    json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Verify checksums, load the weights and score a crop with them.

    The exit code is 1 if a check fails.
    """
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.cli.console.models_view import rows_table
        from torchfakes_cli.detector.registry import SHIPPED_NAME, installed, verify_detector

        screen = Screen()
        checked = [verify_detector(name) for name in models or [SHIPPED_NAME, *installed()]]
        if json:
            screen.line(json_format.dumps([_verified(one) for one in checked], indent=2, ensure_ascii=False))
        else:
            rows = [(one.name, "wrong" if one.problem else "right", _checksum_words(one)) for one in checked]
            screen.result(rows_table(("name", "", "checksum"), rows))
        for one in checked:
            if one.problem:
                screen.error(f"{one.name}: {one.problem}")
    raise typer.Exit(ExitCode.FAILED if any(one.problem for one in checked) else ExitCode.DONE)


def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Import this .pth or .safetensors file.")],
    name: _Name = "",
    preset: _PresetOption = None,
    input_size: _InputSize = None,
    crop_size: _CropSize = None,
    margin: _Margin = None,
    crop_shape: _Shape = None,
    unit_range: _UnitRange = None,
    licence: _Licence = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a detector of this name.")] = False,
    json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Import weights of InceptionResnetV1 with one logit, such as the origin's, and set the input that they expect.

    No code in the file is run: only tensors are read, checked, and written as a checkpoint of this program's own
    kind.
    """
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.detector.import_weights import import_weights

        changes = _changes(input_size, crop_size, margin, crop_shape, unit_range)
        made = import_weights(Path(file), name, preset=preset, changes=changes, licence=licence, force=force)
        _tell(Screen(), made, json=json)


def fetch_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL|hf:REPO",
            help="Fetch this detector: a name that models list shows, a URL, or a repository on Hugging Face: "
            "hf:OWNER/NAME, with @REVISION "
            "and /FILE where they matter (a space: hf:spaces/OWNER/NAME/FILE).",
            autocompletion=fetchable_names,
        ),
    ],
    name: _Name = "",
    sha256: Annotated[
        str,
        typer.Option("--sha256", help="Require this SHA-256 of the file.", show_default="that of the first download"),
    ] = "",
    preset: _PresetOption = None,
    input_size: _InputSize = None,
    crop_size: _CropSize = None,
    margin: _Margin = None,
    crop_shape: _Shape = None,
    unit_range: _UnitRange = None,
    licence: _Licence = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Fetch again, ignore the recorded checksum, and replace a detector of this name."),
    ] = False,
    json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Download a detector, check it and import it; an interrupted download is continued.

    A proxy is taken from HTTPS_PROXY. If no checksum is known, that of the first download is recorded.
    """
    with guarded(debug=debug):
        from torchfakes_cli.cli.console import Screen
        from torchfakes_cli.detector.download import fetch_detector

        screen = Screen()
        changes = _changes(input_size, crop_size, margin, crop_shape, unit_range)
        with screen.progress(f"fetching {source} (MiB)") as advance:
            made = fetch_detector(
                source,
                name,
                sha256=sha256,
                preset=preset,
                changes=changes,
                licence=licence,
                force=force,
                progress=lambda done, wanted: advance(done >> 20, wanted and wanted >> 20),
            )
        _tell(screen, made, json=json)


MODELS_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_command,
    "show": show_command,
    "verify": verify_command,
    "import": import_command,
    "fetch": fetch_command,
    "export": export_command,
}


def _changes(
    input_size: int | None,
    crop_size: int | None,
    margin: float | None,
    crop_shape: CropShape | None,
    unit_range: bool | None,
) -> dict[str, int | float | str]:
    """Return the options of the preprocessing by their names in the header."""
    from torchfakes_cli.detector.import_weights import UNIT_RANGE
    from torchfakes_cli.detector.preprocess import MEAN, SCALE

    given: dict[str, int | float | str | None] = {
        "input_size": input_size,
        "crop_size": crop_size,
        "margin": margin,
        "crop_shape": crop_shape and crop_shape.value,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if unit_range is not None:
        changes["mean"], changes["scale"] = UNIT_RANGE if unit_range else (MEAN, SCALE)
    return changes


def _tell(screen: Screen, made: Imported, *, json: bool) -> None:
    from torchfakes_cli.detector.model_info import input_words

    if json:
        document = {
            "name": made.name,
            "path": str(made.path),
            "header": asdict(made.header),
            "notes": made.notes,
            "warnings": made.doubts,
        }
        screen.line(json_format.dumps(document, indent=2, ensure_ascii=False))
    else:
        screen.line(f"{made.name}: {made.path}")
        screen.line(f"it expects {input_words(made.header)}; a logit above zero is fake")
        for note in made.notes:
            screen.note(note)
    for doubt in made.doubts:
        screen.warning(doubt)


def _verified(one: Verified) -> dict[str, str | bool | None]:
    return {
        "name": one.name,
        "path": str(one.path) if one.path else None,
        "sha256": one.sha256 or None,
        "recorded_sha256": one.recorded or None,
        "right": not one.problem,
        "problem": one.problem or None,
    }


def _checksum_words(one: Verified) -> str:
    if not one.sha256:
        return ""
    if not one.recorded:
        compared = "none is recorded"
    else:
        compared = "as recorded" if one.recorded == one.sha256 else "not the recorded one"
    return f"SHA-256 {one.sha256[:16]}…, {compared}"
