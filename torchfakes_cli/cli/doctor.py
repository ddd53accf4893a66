"""``torchfakes doctor``: capabilities of this machine and installation, and the choices made from them."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import platform
import sys
from pathlib import Path

import typer

from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import Debug, Json
from torchfakes_cli.facts import Fact, Severity
from torchfakes_cli.version import __version__

#: Libraries that every scan needs, and the groups of diagnostics that must be in order.
_LIBRARIES = {"PyTorch": "torch", "PyAV": "av", "OpenCV": "cv2", "NumPy": "numpy", "safetensors": "safetensors"}
_NEEDED = {"computing", "decoding", "detector"}
#: The function of each group, imported when it is called, because importing it may fail.
_GROUPS = {
    "programs": "cli.doctor:_programs",
    "computing": "detector.diagnostics:computing_diagnostics",
    "decoding": "video.diagnostics:decoding_diagnostics",
    "detector": "detector.diagnostics:detector_diagnostics",
    "extras": "cli.doctor:_extras",
    "folders": "detector.diagnostics:cache_diagnostics",
}

_STYLES = {Severity.GOOD: "", Severity.LIMITED: "yellow", Severity.BROKEN: "bold red"}

#: Optional libraries and their use.
_EXTRAS = {
    "tensorboard": "train --logger tensorboard",
    "wandb": "train --logger wandb",
    "onnxruntime": "models export",
    "gradio": "demo",
    "fastapi": "serve",
    "pyarrow": "scan -o results.parquet",
    "c2pa": "Content Credentials in reports",
    "pillow_heif": "HEIC photos",
    "timm": "train --backbone timm:NAME",
    "ray": "scan --ray",
    "fsspec": "videos in stores by URL",
    "skimage": "the tests and the making of sample videos",
}


def doctor_command(json: Json = False, debug: Debug = False) -> None:
    """Show what this machine and installation can do, and which choices follow from it.

    Nothing is changed or fetched. The exit code is 1 only if no scan can work.
    """
    with guarded(debug=debug) as screen:
        from rich.text import Text

        from torchfakes_cli.cli.console import safe, texts_table

        with screen.progress("examining this machine"):
            found = examine()
        broken = [fact for facts in found.values() for fact in facts if fact.severity is Severity.BROKEN]
        if json:
            facts = [
                {"group": group, "name": fact.name, "value": fact.value, "why": fact.why, "standing": fact.severity}
                for group, facts in found.items()
                for fact in facts
            ]
            screen.json({"can_scan": not broken, "facts": facts})
        else:
            rows = {
                group: [(fact.name, Text(safe(fact.value), _STYLES[fact.severity]), fact.why) for fact in facts]
                for group, facts in found.items()
            }
            screen.result(texts_table(("", "found or chosen", "why"), rows))
        for fact in broken:
            screen.error(f"no scan can work: {fact.name}: {fact.value}" + (f" ({fact.why})" if fact.why else ""))
        raise typer.Exit(ExitCode.FAILED if broken else ExitCode.DONE)


def examine() -> dict[str, list[Fact]]:
    """Collect all diagnostics by group; a part that can't be loaded is a diagnostic, too."""
    found: dict[str, list[Fact]] = {}
    for name, function in _GROUPS.items():
        try:
            found[name] = pkgutil.resolve_name(f"torchfakes_cli.{function}")()
        except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
            severity = Severity.BROKEN if name in _NEEDED else Severity.LIMITED
            found[name] = [Fact(name, "can't be examined", _in_one_line(error), severity)]
    return found


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _programs() -> list[Fact]:
    return [
        Fact("torchfakes", __version__),
        Fact("Python", platform.python_version(), sys.executable),
        Fact("system", f"{platform.system()} {platform.release()}", platform.machine()),
        *(_library(name, module) for name, module in _LIBRARIES.items()),
        *_compiled("torch"),
    ]


def _library(name: str, module: str) -> Fact:
    try:
        return Fact(name, str(importlib.import_module(module).__version__))
    except ModuleNotFoundError:
        return Fact(name, "missing", "install torchfakes again", Severity.BROKEN)
    except Exception as error:  # noqa: BLE001 - as above
        return Fact(name, "can't be loaded", _in_one_line(error), Severity.BROKEN)


def _compiled(module: str) -> list[Fact]:
    """Check that the bytecode of an imported module is cached, as pip leaves it."""
    spec = importlib.util.find_spec(module) if module in sys.modules else None
    if spec is None or spec.origin is None or spec.cached is None:
        return []
    if Path(spec.cached).is_file():
        return [Fact("compiled modules", "kept")]
    folder = Path(spec.origin).parent
    why = f'each start compiles PyTorch again, for 2 seconds; to end that: python -m compileall -q "{folder}"'
    return [Fact("compiled modules", "not kept", why, Severity.LIMITED)]


def _extras() -> list[Fact]:
    return [
        Fact(name, "installed" if importlib.util.find_spec(name) else "not installed", f"for {use}")
        for name, use in _EXTRAS.items()
    ]
