"""How fast a graphics card scans, against the straightforward pipeline on the same card, and how busy it is.

Prints; asserts no time, but that both devices come to the same verdicts.

pytest -m "benchmark and gpu" -s tests/benchmark/test_gpu_speed.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from statistics import mean

import pytest
import torch

from tests.benchmark.films import write_film
from tests.benchmark.processes import run

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CLIPS, SECONDS = 16, 60


class BusyShare:
    """Asks the driver twice a second how busy the card is, while the block runs."""

    def __enter__(self) -> BusyShare:
        self._over = threading.Event()
        self._seen: list[float] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._over.wait(0.5):
            answer = subprocess.run(query, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                self._seen.append(float(answer.stdout.split()[0]))

    @property
    def percent(self) -> float:
        """In the middle half of the time: the start and the end are no measure of a long run."""
        quarter = len(self._seen) // 4
        return mean(self._seen[quarter : len(self._seen) - quarter] or [float("nan")])


def test_a_folder_on_the_card(tmp_path: Path) -> None:
    first = write_film(tmp_path / "00.mp4", SECONDS, faces=3)
    for number in range(1, CLIPS):
        shutil.copy(first, tmp_path / f"{number:02}.mp4")
    with BusyShare() as busy:
        own = run("torchfakes_cli", "scan", str(tmp_path), "--fps", "1", "--device", "cuda", "--json")
    reference = run("tests.benchmark.reference", str(first), "1", "20", "cuda")
    on_cpu = json.loads(run("torchfakes_cli", "scan", str(first), "--fps", "1", "--device", "cpu", "--json").output)
    results = [json.loads(line) for line in own.output.splitlines()]
    faces = sum(row["track"] is not None for result in results for row in result["timeline"])
    print(
        f"\n{CLIPS} clips of {SECONDS} s, 1080p, 3 faces, one frame a second, on {torch.cuda.get_device_name()}:"
        f"\n  torchfakes scan   {own}"
        f"\n  {CLIPS * SECONDS / own.wall_s:.0f} frames and {faces / own.wall_s:.0f} faces a second, "
        f"{CLIPS * SECONDS / own.wall_s:.0f} hours of video an hour, the card busy {busy.percent:.0f} % of the time"
        f"\n  reference, 1 clip {reference}"
        f"\n  {reference.wall_s * CLIPS / own.wall_s:.1f} times as fast as the reference"
    )
    for result in results:
        assert result["verdict"] == on_cpu["verdict"]
        assert result["p_fake"] == pytest.approx(on_cpu["p_fake"], abs=0.02)
