"""The shell offers choices, detectors and files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from torchfakes_cli.cli import app
from torchfakes_cli.cli.options import DAMAGES
from torchfakes_cli.training.evaluate.perturb import Kind

#: What a shell runs: the program under its own name, from wherever the tests were started.
PROGRAM = f"{shlex.quote(sys.executable)} -m torchfakes_cli"
TYPED = "torchfakes train --optimizer ad"


def offered(words: str) -> list[str]:
    """What bash is told when the last word, maybe empty, is completed."""
    typed = f"torchfakes {words}"
    environment = {
        "_TORCHFAKES_COMPLETE": "complete_bash",
        "COMP_WORDS": typed.replace(" ", "\n"),
        "COMP_CWORD": str(typed.count(" ")),
    }
    return CliRunner().invoke(app, [], env=environment, prog_name="torchfakes").output.split()


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("e", ["explain", "evaluate"]),
        ("models f", ["fetch"]),
        ("train --re", ["--recipe", "--resume"]),
        ("train --optimizer ad", ["adamw", "adam"]),
        ("train --weights s", ["scratch"]),
        ("train --device c", ["cpu", "cuda"]),
        ("evaluate --robustness ", [*Kind, "all"]),
        ("prepare --compression c", ["c23", "c40"]),
        ("prepare --split ", ["groups", "official"]),
        ("models fetch ", ["origin"]),
        ("scan clip", []),
        ("scan --model ./", []),
    ],
)
def test_values(words: str, values: list[str]) -> None:
    assert offered(words) == values


@pytest.mark.parametrize(
    "words",
    ["models show ", "models verify ", "models export ", "scan --model ", "evaluate --model ", "serve --model "],
)
def test_detectors_of_this_machine(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.safetensors").touch()
    monkeypatch.setenv("TORCHFAKES_MODELS", str(tmp_path))
    assert offered(words) == ["torchfakes", "mine"]
    assert offered(f"{words}m") == ["mine"]


def test_kinds_of_damage_are_those_there_are() -> None:
    assert tuple(Kind) == DAMAGES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "ask"),
    [
        ("bash", f"COMP_WORDS=({TYPED}); COMP_CWORD=3; _torchfakes_completion torchfakes; echo ${{COMPREPLY[@]}}"),
        ("zsh", f"compdef() {{ }}; _arguments() {{ echo $@; }}; . ./script; words=({TYPED}); CURRENT=4; "
                "_torchfakes_completion"),
        ("fish", f"complete --do-complete '{TYPED}'"),
    ],
)  # fmt: skip
def test_shells_take_the_script_that_is_installed(shell: str, ask: str, tmp_path: Path) -> None:
    """``--install-completion`` run in each shell, and what the shell's own machinery makes of it."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not on this machine")
    program = tmp_path / "bin" / "torchfakes"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {PROGRAM} "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(tmp_path), "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(script: str) -> str:
        command = [shell, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path).stdout

    assert "completion installed" in run("torchfakes --install-completion; true")
    installed = {
        "bash": ".bash_completions/torchfakes.sh",
        "zsh": ".zfunc/_torchfakes",
        "fish": ".config/fish/completions/torchfakes.fish",
    }
    script = tmp_path / installed[shell]
    (tmp_path / "script").write_text(script.read_text())
    source = "" if shell == "zsh" else ". ./script; "
    told = run(source + ask)
    assert "adamw" in told
    assert "adam" in told.replace("adamw", "")
    assert "sgd" not in told
