"""Non-maximum suppression keeps what the textbook's loop keeps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.faces.boxes import iou
from torchfakes_cli.faces.candidates import Candidates, suppressed

corner = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(8, 30), st.integers(8, 30))


@given(st.lists(st.lists(corner, max_size=12), min_size=1, max_size=3), st.sampled_from([0.3, 0.5, 0.7]))
def test_what_overlaps_a_better_one_that_is_kept_goes(pictures: list[list[tuple[int, ...]]], threshold: float) -> None:
    most = max(map(len, pictures))
    boxes, scores = torch.zeros(len(pictures), most, 4), torch.zeros(len(pictures), most)
    wanted = torch.zeros(len(pictures), most)
    for number, corners in enumerate(pictures):
        kept: list[tuple[float, float, float, float]] = []
        for place, (x, y, w, h) in enumerate(corners):
            box = (float(x), float(y), float(x + w), float(y + h))
            boxes[number, place] = torch.tensor(box)
            scores[number, place] = 0.9 - place / 100
            if all(iou(box, better) <= threshold for better in kept):
                kept.append(box)
                wanted[number, place] = scores[number, place]
    assert torch.equal(suppressed(Candidates(boxes, scores), threshold), wanted)


@pytest.mark.parametrize(("contained", "kept"), [(False, 2), (True, 1)])
def test_a_small_box_in_a_large_one_counts_as_the_same_if_asked(contained: bool, kept: int) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 99.0, 99.0], [30.0, 30.0, 59.0, 59.0]]])
    scores = suppressed(Candidates(boxes, torch.tensor([[0.9, 0.8]])), 0.7, contained=contained)
    assert int((scores > 0).sum()) == kept
