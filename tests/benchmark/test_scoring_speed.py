"""How many faces a second the classifier scores, against the network as facenet-pytorch has it, in float32.

Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_scoring_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1

from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.detector.preprocess import to_input

pytestmark = pytest.mark.benchmark


def faces_a_second(score: Callable[[], object], count: int) -> float:
    """Of the fastest of five rounds, after a first one that doesn't count."""
    score()
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        score()
        rounds.append(time.perf_counter() - started)
    return count / min(rounds)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_scoring_against_float32(batch: int) -> None:
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (160, 160, 3), dtype=np.uint8) for _ in range(batch)]
    detector = load_detector(device="cpu")
    plain = InceptionResnetV1(classify=True, num_classes=1).eval()

    def plainly() -> torch.Tensor:
        with torch.inference_mode():
            return plain(to_input(crops, 160).contiguous())

    own, reference = faces_a_second(lambda: detector.score(crops), batch), faces_a_second(plainly, batch)
    print(
        f"\n{batch:2} faces at once, {torch.get_num_threads()} threads: {own:6.1f} a second in {detector.precision}, "
        f"reference in float32 {reference:6.1f}: {own / reference:.2f} times as fast"
    )
    assert len(detector.score(crops)) == batch
