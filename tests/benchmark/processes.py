"""Measures whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One process from start to end: seconds, seconds of processor time and MiB at most (0 where not told), output."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    output: str

    def __str__(self) -> str:
        return f"{self.wall_s:7.1f} s  {self.cpu_s:7.1f} s of processor time  {self.peak_mib:6.0f} MiB"


def run(*command: str) -> Run:
    """Runs ``python -m`` with this command to its end."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    output = process.stdout.read()
    cpu_s = peak = 0.0
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)  # of the process and the children that it waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)
        cpu_s = usage.ru_utime + usage.ru_stime
    process.stdout.close()
    assert process.wait() == 0
    return Run(time.perf_counter() - started, cpu_s, peak, output)


def fastest(times: int, *command: str) -> Run:
    """The fastest of several runs: what else the machine does only adds."""
    runs: Sequence[Run] = [run(*command) for _ in range(times)]
    return min(runs, key=lambda each: each.wall_s)
