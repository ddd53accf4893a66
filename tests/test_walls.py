"""The rooms of the package import one way, and what should stay light does."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "torchfakes_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {"version", "records", "facts", "errors", "files"}
MAY_IMPORT = {
    "video": BASE,
    "faces": BASE,
    "detector": BASE,
    "report": BASE,
    "scan": BASE | {"video", "faces", "detector", "report"},
    # The video scores of a training run are those of a scan: the policy is shared, the pipeline is not.
    "training": BASE | {"video", "faces", "detector", "report", "scan.verdict", "scan.config"},
    # What an export is calibrated with and compared on are the crops that ``prepare`` wrote.
    "export": BASE | {"faces", "detector", "scan.config", "training.crops", "training.corpora"},
    "demo": BASE | {"video", "faces", "detector", "report", "scan", "serve.config"},
    # The service is the scan behind HTTP: it puts nothing together itself, so it sees no stage.
    "serve": BASE | {"report", "scan"},
    "cli": BASE | {"video", "faces", "detector", "report", "scan", "training", "export", "demo", "serve"},
}
ONLY_IN = {
    "av": "video",
    "facenet_pytorch": "none",
    "fsspec": "scan",
    "gradio": "demo",
    "huggingface_hub": "detector",
    "jinja2": "report",
    "pooch": "detector",
    "ray": "scan",
    "rich": "cli",
    "timm": "detector",
    "torchcam": "none",
    "torchvision": "none",
    "typer": "cli",
    **dict.fromkeys(["fastapi", "starlette", "uvicorn", "pydantic", "python_multipart", "prometheus_client"], "serve"),
}


def room_of(module: Path) -> str:
    """The folder a module lives in; for the files beside the folders, their own name."""
    first = module.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ""


def imports(module: Path) -> set[str]:
    """Every module that is imported anywhere in a file, for types and inside functions too."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == PACKAGE.name
                else {node.module}
            )
    return found


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_run_one_way(module: Path) -> None:
    room = room_of(module)
    if room not in MAY_IMPORT:
        return  # the public names of the package are gathered from every room
    for name in imports(module):
        package, *rest = name.split(".")
        if package == "torchfakes_cli":
            targets = {".".join(rest[:1]), ".".join(rest[:2])}
            assert targets & (MAY_IMPORT[room] | {room}), f"{room} must not import {name}"


def test_the_rooms_of_training_follow_its_steps() -> None:
    steps = ["corpora", "crops", "evaluate", "fit"]
    for place, step in enumerate(steps):
        later = {f"torchfakes_cli.training.{name}" for name in steps[place + 1 :]}
        modules = list((PACKAGE / "training" / step).glob("*.py"))
        assert modules, step
        for module in modules:
            assert not {".".join(name.split(".")[:3]) for name in imports(module)} & later, module


@pytest.mark.parametrize("base", ["version.py", "records.py", "facts.py", "errors.py", "files.py"])
def test_the_base_imports_no_room(base: str) -> None:
    ours = {name for name in imports(PACKAGE / base) if name.startswith("torchfakes_cli")}
    assert ours <= {f"torchfakes_cli.{name}" for name in BASE}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_each_library_has_its_room(module: Path) -> None:
    for name in imports(module):
        rooms = ONLY_IN.get(name.split(".")[0])
        assert rooms is None or room_of(module) in rooms.split(), f"{name} belongs in {rooms}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_nothing_prints_past_the_console(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import torchfakes_cli", "torch numpy av cv2 pandas rich typer"),
        ("import torchfakes_cli.scan.verdict", "torch numpy av cv2 pandas rich typer"),
        ("import torchfakes_cli.report", "torch numpy av cv2 pandas rich typer"),
        ("import torchfakes_cli.report.html.page", "torch av pandas rich typer"),
        ("import torchfakes_cli.cli.scan", "torch numpy av cv2 pandas jinja2 matplotlib"),
        ("import torchfakes_cli.cli", "torch numpy av cv2 pandas fastapi uvicorn gradio"),
        ("import torchfakes_cli.scan.config, torchfakes_cli.training.config", "torch numpy av cv2 pandas rich typer"),
        ("import torchfakes_cli.faces.tracking, torchfakes_cli.faces.crops", "torch av"),
        ("import torchfakes_cli.scan.explain, torchfakes_cli.faces.regions", "torch av"),
        (
            "import torchfakes_cli.detector.download, torchfakes_cli.detector.registry",
            "torch huggingface_hub pooch requests",
        ),
        ("import torchfakes_cli.scan.batch, torchfakes_cli.scan.worker_pool", "torch"),
        ("import torchfakes_cli.scan.discovery, torchfakes_cli.scan.scanner", "torch"),
    ],
)
def test_importing_stays_light(statement: str, absent: str) -> None:
    check = f"import sys; {statement}; print(*({set(absent.split())!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert run.stdout.split() == []
