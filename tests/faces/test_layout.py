"""The levels of a pyramid share canvases without touching each other's windows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.faces.layout import lay_out

side = st.integers(12, 4000)


@given(side, side, st.floats(12, 200))
def test_every_level_has_all_its_windows_and_no_window_two_levels(width: int, height: int, min_face: float) -> None:
    layout = lay_out(width, height, min_face)
    assert bool(layout.levels) == (min(width, height) * 12 / min_face >= 12)
    tables = [layout.windows(canvas) for canvas in range(len(layout.canvases))]
    for number, level in enumerate(layout.levels):
        assert (tables[level.canvas] == number).sum() == (level.width // 2 - 5) * (level.height // 2 - 5)
        assert level.left + level.width <= layout.canvases[level.canvas][0]
        assert level.top + level.height <= layout.canvases[level.canvas][1]
    assert all(np.count_nonzero(table >= 0) > 0 for table in tables)
