"""What a process takes from start to end, by itself: seconds, processor time, and memory at its peak.

On Linux a process that another one starts counts that one's peak memory as its own from the beginning, so a small
launcher stands between a large test run and what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = """
import json, os, subprocess, sys, time
report, *command = sys.argv[1:]
started = time.perf_counter()
process = subprocess.Popen(command)
cpu_s = peak = 0
if hasattr(os, "wait4"):
    _, status, usage = os.wait4(process.pid, 0)  # of the process and the children that it waited for
    code, cpu_s, peak = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss
else:
    code = process.wait()
with open(report, "w") as file:
    json.dump([code, time.perf_counter() - started, cpu_s, peak], file)
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """One process: seconds, seconds of processor time and MiB at most (0 where not told), and its output."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    output: str

    def __str__(self) -> str:
        return f"{self.wall_s:7.1f} s  {self.cpu_s:7.1f} s of processor time  {self.peak_mib:6.0f} MiB"


def usage_of(command: Sequence[str]) -> Usage:
    """Runs a command, which must succeed; memory is that of its largest process."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        launched = [sys.executable, "-c", _LAUNCHER, str(report), *command]
        output = subprocess.run(launched, stdout=subprocess.PIPE, check=True, text=True, encoding="utf-8").stdout
        code, wall_s, cpu_s, peak = json.loads(report.read_text())
    assert code == 0, f"{command} ended with {code}"
    return Usage(wall_s, cpu_s, peak / (1 << 10 if sys.platform != "darwin" else 1 << 20), output)


#: Whether the system tells a process's peak memory.
TELLS_MEMORY = hasattr(os, "wait4")
