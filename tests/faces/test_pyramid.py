"""The levels of a pyramid share canvases without touching each other's windows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.faces.pyramid import pack_pyramid

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
