"""Help is instant, complete, and needs nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import torchfakes_cli
from torchfakes_cli.cli import app

COMMANDS = ["scan", "explain", "prepare", "train", "evaluate", "demo", "serve", "doctor", "models"]
MODELS_COMMANDS = ["list", "show", "verify", "import", "fetch", "export"]
HEAVY = {"torch", "numpy", "pandas", "av", "cv2", "facenet_pytorch", "matplotlib", "sklearn", "fastapi", "uvicorn"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\n"
        "from torchfakes_cli.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments", [["--help"], *([command, "-h"] for command in COMMANDS), ["models", "fetch", "-h"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 0
    assert ended.stderr.strip() == "[]"
    assert ended.stdout


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"torchfakes {torchfakes_cli.__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(
    "command", [[], *([command] for command in COMMANDS), *(["models", command] for command in MODELS_COMMANDS)]
)
def test_help_works_everywhere(command: list[str], flag: str) -> None:
    result = CliRunner().invoke(app, [*command, flag])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_every_command_is_listed_with_a_sentence() -> None:
    output = CliRunner().invoke(app, ["-h"], env={"COLUMNS": "120"}).output
    for command in COMMANDS:
        (line,) = [line for line in output.splitlines() if f" {command} " in line and "Usage" not in line]
        assert line.strip("│ ").endswith(".")


@pytest.mark.parametrize("arguments", [["scan"], ["scan", "x", "--bogus"], ["bogus"]])
def test_wrong_usage_is_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
