"""Pyramid levels share canvases without touching each other's windows; both devices make the same pictures."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.faces.parity import crowd
from torchfakes_cli.faces.pyramid import PyramidOnCpu, PyramidOnDevice, pack_pyramid

side = st.integers(12, 4000)


@given(side, side, st.floats(12, 200))
def test_every_level_has_all_its_windows_and_no_window_two_levels(width: int, height: int, min_face: float) -> None:
    packing = pack_pyramid(width, height, min_face)
    assert bool(packing.levels) == (min(width, height) * 12 / min_face >= 12)
    tables = [packing.windows(canvas) for canvas in range(len(packing.canvases))]
    for number, level in enumerate(packing.levels):
        assert (tables[level.canvas] == number).sum() == (level.width // 2 - 5) * (level.height // 2 - 5)
        assert level.left + level.width <= packing.canvases[level.canvas][0]
        assert level.top + level.height <= packing.canvases[level.canvas][1]
    assert all(np.count_nonzero(table >= 0) > 0 for table in tables)


def test_both_devices_give_the_same_canvases_and_crops() -> None:
    frames = [crowd((321, 241), 2, seed) for seed in range(3)]
    packing = pack_pyramid(321, 241, 40)
    ours, theirs = PyramidOnCpu(frames), PyramidOnDevice(frames, torch.device("cpu"))
    pairs = list(zip(ours.canvases(packing), theirs.canvases(packing), strict=True))
    boxes = torch.tensor([[10.0, 20, 34, 44], [-20, -10, 60, 70], [250, 180, 340, 270], [20, 20, 220, 220]])
    owners = torch.tensor([0, 2, 1, 2])
    pairs += [(ours.cut(boxes, owners, side), theirs.cut(boxes, owners, side)) for side in (24, 48)]
    for expected, found in pairs:
        assert expected.shape == found.shape
        assert float((expected.float() - found).abs().mean()) < 3
