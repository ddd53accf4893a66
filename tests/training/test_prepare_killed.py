"""A run of ``prepare`` that is killed again and again ends as one that nothing disturbed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.layouts import write_faceforensics
from torchfakes_cli.training.crops.manifest import read_manifest

pytestmark = pytest.mark.slow

ROUNDS = 10


def _command(corpus: Path, out: Path) -> list[str]:
    options = ["--frames-per-video", "6", "--size", "96", "--jobs", "2"]
    return [sys.executable, "-m", "torchfakes_cli", "prepare", str(corpus), "-o", str(out), *options]


def _files(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_run_killed_at_random_instants(tmp_path: Path) -> None:
    corpus = write_faceforensics(tmp_path / "corpus", 12, ("Deepfakes", "FaceSwap"))
    started = time.monotonic()
    subprocess.run(_command(corpus, tmp_path / "whole"), check=True, capture_output=True)
    whole_s = time.monotonic() - started
    rng = random.Random(0)
    out, finished, killed = tmp_path / "crops", 0, 0
    for _ in range(ROUNDS):
        run = subprocess.Popen(_command(corpus, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # Short of the whole, or the first round may finish and leave nothing to kill.
            run.wait(rng.uniform(0.05, 0.6) * whole_s)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            killed += 1
        parts = len(list((out / "parts").glob("*.json")))
        assert parts >= finished, "what was done is lost"
        finished = parts
    assert killed
    last = subprocess.run(_command(corpus, out), check=True, capture_output=True, text=True)
    again = subprocess.run(_command(corpus, out), check=True, capture_output=True, text=True)
    assert "nothing to do: all 36 files were ready" in again.stderr, last.stderr
    table = read_manifest(out)
    assert sorted(table["crop"]) == sorted(_files(out, "*.png"))
    assert _files(out, "*.png") == _files(tmp_path / "whole", "*.png")
    assert _files(out).keys() == _files(tmp_path / "whole").keys()
    assert (out / "manifest.csv").read_bytes() == (tmp_path / "whole" / "manifest.csv").read_bytes()
