"""How fast exported detectors score one face and eight, against torch in float32 in the same run.

Files and torch run in turn, with the same number of threads. Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_export_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pytest
import torch

from tests.portraits import scene
from torchfakes_cli.export.folder import export_model
from torchfakes_cli.export.networks import load_both, planes, session
from torchfakes_cli.export.parity import random_crops

pytestmark = pytest.mark.benchmark


def medians(runs: Mapping[str, Callable[[], object]], rounds: int = 9) -> dict[str, float]:
    """Milliseconds of each, taken in turn after a first round that doesn't count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for counts in [False] + [True] * rounds:
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if counts:
                taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: median(times) for name, times in taken.items()}


def test_scoring_by_exported_files(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    for number, height in enumerate(np.linspace(60, 200, 24)):
        picture = (scene((320, 320), (160, 160), height) * np.linspace(0.4, 1.4, 24)[number]).clip(0, 255)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.cvtColor(picture.astype(np.uint8), cv2.COLOR_RGB2BGR))
    threads = torch.get_num_threads()
    _, detector = load_both("torchfakes")
    files = {}
    for precision in ("fp32", "fp16", "int8"):
        path = tmp_path / f"{precision}.onnx"
        export_model("torchfakes", path, precision=precision, pictures=tmp_path, accept=True)
        files[precision] = session(path.read_bytes(), threads)
    for count in (1, 8):
        crops = random_crops(160, 160)[:count]
        inputs = planes(crops)
        runs = {name: partial(file.run, ["logit"], {"crops": inputs}) for name, file in files.items()}
        times = medians({"torch": partial(detector.score, crops), **runs})
        ratios = ", ".join(f"{name} {times['torch'] / times[name]:.2f}" for name in runs)
        print(f"\n{count} at once, {threads} threads: torch fp32 {times['torch']:.1f} ms; times as fast: {ratios}")
        assert all(len(run()[0]) == count for run in runs.values())
