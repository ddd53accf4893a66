"""The processes below a command, by what the system tells of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: By which a worker is told from the other processes of its command: in its command line.
PROCESS_WORKER = b"spawn_main"
RAY_WORKER = b"ray::WorkerScanner"


def below(pid: int, mark: bytes = b"") -> set[int]:
    """The processes below one, by number; those whose command line holds a mark."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                # The name before it, in brackets, may hold anything.
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(folder.name)] = (folder / "cmdline").read_bytes()
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child for child in found - {pid} if mark in commands.get(child, b"")}


def processor_s(pids: set[int]) -> float:
    """Seconds of processor time that these and the children that they waited for have taken until now."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Until it is so, while a command runs."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, "the command has ended"
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.02)


def alive(pids: set[int]) -> set[int]:
    """Those that live still."""
    found = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
    return found


def gone(pids: set[int], within_s: float = 10.0) -> bool:
    """Whether these processes end in time: the last helpers do so by themselves, just after their parent."""
    deadline = time.monotonic() + within_s
    while alive(pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
