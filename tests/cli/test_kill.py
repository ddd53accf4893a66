"""A batch that is killed at any moment, many times: no row is lost, doubled or torn, and nothing is left behind."""

from __future__ import annotations

import json
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

from tests.report.tables import paths, state_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="other systems have no signals to kill with"),
]

# A test run in the background passes on that it ignores interrupts; a user's terminal doesn't.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", HEED + "from torchfakes_cli.cli import main; main()", "scan"]
CLIPS, ROUNDS = 80, 9


def finished(table: Path) -> list[str]:
    """The files whose rows can be read: in the table, or, where it is Parquet, in its companion."""
    if table.suffix != ".parquet":
        return paths(table) if table.exists() else []
    lines = state_of(table).read_bytes().splitlines()[1:] if state_of(table).exists() else []
    return list({json.loads(line)["row"][0]: None for line in lines})


def wait_for_rows(process: subprocess.Popen[bytes], table: Path, count: int) -> None:
    """Until there are more rows than that, or the batch is done."""
    state = state_of(table)
    deadline = time.monotonic() + 60
    while process.poll() is None and (not state.exists() or state.read_bytes().count(b"\n") <= count):
        assert time.monotonic() < deadline, "no row in a minute"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".csv", kind) for kind in ("SIGKILL", "SIGINT", "SIGTERM")]
    + [(ending, "SIGKILL") for ending in (".jsonl", ".sqlite", ".parquet")]
    + [(".parquet", "SIGINT")],
)
def test_rows_survive_every_end(clips: Path, model: Path, tmp_path: Path, ending: str, kind: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    for number in range(CLIPS):
        shutil.copy(clips / "face.mp4", clips / f"z{number:02}.mp4")
    results = tmp_path / "out" / f"results{ending}"
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
        known = finished(results)
        assert len(set(known)) == len(known) >= before
        before = len(known)
        if before >= CLIPS:  # a fast machine is done before all rounds are
            shutil.rmtree(results.parent)
            results.parent.mkdir()
            before = 0
    assert killed > ROUNDS // 2
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3  # one clip is broken
    assert paths(results) == sorted(str(path) for path in clips.glob("*.mp4"))
    assert sorted(path.name for path in results.parent.iterdir()) == [results.name, state_of(results).name]
