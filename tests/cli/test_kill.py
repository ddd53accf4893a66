"""A batch that is killed at any moment, many times: no row is lost, doubled or torn, and nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.report.tables import journal_of, paths

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="other systems have no signals to kill with"),
]

# A test run in the background passes on that it ignores interrupts; a user's terminal doesn't.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", HEED + "from torchfakes_cli.cli import main; main()", "scan"]
CLIPS, ROUNDS = 80, 9


LINES = (".csv", ".jsonl")


def finished(table: Path, scratch: Path) -> list[str]:
    """The files whose rows can be read: in the table, or, where that is written whole, in its journal."""
    if table.suffix in LINES:
        return paths(table) if table.exists() else []
    if not journal_of(table).exists():
        return []
    for ending in ("", "-wal"):  # a copy, so that the next run recovers the original
        if (part := Path(f"{journal_of(table)}{ending}")).exists():
            shutil.copy(part, scratch / f"copy{ending}")
        else:
            (scratch / f"copy{ending}").unlink(missing_ok=True)
    with closing(sqlite3.connect(scratch / "copy")) as journal, suppress(sqlite3.OperationalError):  # no table yet
        return [json.loads(path) for (path,) in journal.execute("SELECT path FROM rows ORDER BY rowid")]
    return []


def wait_for_rows(process: subprocess.Popen[bytes], table: Path, count: int) -> None:
    """Until there are more rows than that, or the batch is done."""

    def enough() -> bool:
        if table.suffix in LINES:
            return table.exists() and table.read_bytes().count(b"\n") > count
        log = Path(f"{journal_of(table)}-wal")
        return log.exists() and log.stat().st_size > 30_000

    deadline = time.monotonic() + 60
    while process.poll() is None and not enough():
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
        known = finished(results, tmp_path)
        assert len(set(known)) == len(known) >= before
        before = len(known)
        if before >= CLIPS:  # a fast machine is done before all rounds are
            shutil.rmtree(results.parent)
            results.parent.mkdir()
            before = 0
    assert killed > ROUNDS // 2
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3  # one clip is broken
    assert paths(results) == sorted(str(path) for path in clips.glob("*.mp4"))
    assert sorted(path.name for path in results.parent.iterdir()) == [results.name, journal_of(results).name]
