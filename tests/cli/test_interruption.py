"""What happens when the command is stopped: rows stay, nothing is left running, and it says so in one line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# A test run in the background passes on that it ignores interrupts; a user's terminal doesn't.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", HEED + "from torchfakes_cli.cli import main; main()", "scan"]


@pytest.fixture
def many(clips: Path) -> Path:
    """A folder with more clips than are scanned in this test."""
    for number in range(60):
        shutil.copy(clips / "face.mp4", clips / f"z{number:02}.mp4")
    return clips


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_rows_stay_and_the_code_is_130(many: Path, model: Path, tmp_path: Path, kind: signal.Signals) -> None:
    results = tmp_path / "results.csv"
    arguments = [str(many), "-o", str(results), "--model", str(model)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (not results.exists() or results.read_bytes().count(b"\n") < 4):
            time.sleep(0.05)
        process.send_signal(kind)
        told = time.monotonic()
        assert process.stderr is not None
        lines = [(line, time.monotonic() - told) for line in process.stderr]
        process.communicate(timeout=30)
        gone = time.monotonic() - told
    errors = "".join(line for line, _ in lines)
    assert lines[-1][1] <= gone < 2
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    content = results.read_bytes()
    assert content.endswith(b"\n")
    assert content.count(b"\n") >= 4


@pytest.mark.parametrize("mode", [["--json"], ["--format", "tsv"], []])
def test_a_reader_that_goes_away_is_no_trouble(many: Path, model: Path, mode: list[str]) -> None:
    arguments = [str(many), "--model", str(model), "--frames", "2", *mode]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(timeout=120)
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert "Exception ignored" not in errors
