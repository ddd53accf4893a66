"""A scan takes no more memory for two hours than for ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture import write_set

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system doesn't tell a process's peak memory"),
]

COMMAND = [sys.executable, "-c", "from torchfakes_cli.cli import main; main()", "scan"]


def peak_memory(clip: Path, model: Path, *options: str) -> int:
    """Of the scan and of its decoder, whichever is larger, in the system's unit."""
    command = [*COMMAND, str(clip), "--json", "--model", str(model), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


def test_peak_memory_does_not_grow_with_length(model: Path, tmp_path: Path) -> None:
    (case,) = write_set(tmp_path, only=r"^d_long_2h\.mp4$")
    clip = tmp_path / case.name
    ten_seconds = peak_memory(clip, model, "--end", "10")
    two_hours = peak_memory(clip, model)
    sys.stdout.write(f"\npeak memory: {two_hours} for two hours, {ten_seconds} for ten seconds of it\n")
    assert two_hours <= 1.1 * ten_seconds
