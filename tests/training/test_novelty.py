from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.training.crops.extract import novelties


def _crops(levels: list[int]) -> list[np.ndarray]:
    return [np.full((48, 48, 3), level, np.uint8) for level in levels]


@given(st.lists(st.integers(0, 255), min_size=1, max_size=30), st.floats(0.5, 60))
def test_any_threshold_keeps_frames_that_differ_and_covers_the_rest(levels: list[int], threshold: float) -> None:
    found = novelties(_crops(levels))
    kept = [level for level, novelty in zip(levels, found, strict=True) if novelty >= threshold]
    assert levels[0] in kept
    assert all(abs(a - b) >= threshold for i, a in enumerate(kept) for b in kept[:i])
    assert all(min(abs(level - other) for other in kept) < threshold for level in levels if level not in kept)


def test_no_crops_have_no_novelty() -> None:
    assert novelties([]) == []
