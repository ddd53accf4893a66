"""A batch that is killed at any moment, many times: no row is lost, doubled or torn, and nothing is left behind."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="other systems have no signals to kill with"),
]

# A test run in the background passes on that it ignores interrupts; a user's terminal doesn't.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", HEED + "from torchfakes_cli.cli import main; main()", "scan"]
CLIPS, ROUNDS = 80, 9


def rows(table: Path) -> list[list[str]]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


def wait_for_rows(process: subprocess.Popen[bytes], table: Path, count: int) -> None:
    """Until there are more rows than that, or the batch is done."""
    deadline = time.monotonic() + 60
    while process.poll() is None and (not table.exists() or table.read_bytes().count(b"\n") <= count):
        assert time.monotonic() < deadline, "no row in a minute"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_rows_survive_every_end(clips: Path, model: Path, tmp_path: Path, kind: str) -> None:
    for number in range(CLIPS):
        shutil.copy(clips / "face.mp4", clips / f"z{number:02}.mp4")
    results = tmp_path / "out" / "results.csv"
    results.parent.mkdir()
    command = [*COMMAND, str(clips), "-o", str(results), "--model", str(model), "--frames", "4"]
    moments = random.Random(kind)
    before = killed = 0
    for number in range(ROUNDS):
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            # Each third time while it starts, whatever it is doing then; else while rows are written.
            if number % 3:
                wait_for_rows(process, results, before + 1)
            time.sleep(moments.uniform(0, 1 if number % 3 else 5))
            killed += process.poll() is None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, getattr(signal, kind))
        paths = [row[0] for row in rows(results)[1:]]
        assert len(set(paths)) == len(paths) >= before
        before = len(paths)
        if before >= CLIPS:  # a fast machine is done before all rounds are
            shutil.rmtree(results.parent)
            results.parent.mkdir()
            before = 0
    assert killed > ROUNDS // 2
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3  # one clip is broken
    header, *body = rows(results)
    assert sorted(row[0] for row in body) == sorted(str(path) for path in clips.glob("*.mp4"))
    assert {len(row) for row in body} == {len(header)}
    assert sorted(path.name for path in results.parent.iterdir()) == ["results.csv", "results.csv.state.jsonl"]
