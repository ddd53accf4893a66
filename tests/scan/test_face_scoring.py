"""From faces to scored rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.faces.crops import crop_face
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.records import Box, Face, Frame
from torchfakes_cli.scan.face_scoring import ALL_UP_TO, THEN_ONE_IN, Timeline, score_waiting

#: Two people; their crops reach a little further.
BOXES: tuple[Box, Box] = ((50.0, 50.0, 150.0, 150.0), (250.0, 50.0, 350.0, 150.0))
COUNT = ALL_UP_TO + 2 * THEN_ONE_IN + 3


#: Holds an item where the network is to fail next.
fails_next: list[bool] = []


class Brightness(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        if fails_next:
            raise RuntimeError(f"out of memory: {fails_next.pop()}")
        return 10 * pictures.mean((1, 2, 3))


def footage(seed: int) -> list[Frame]:
    """Two people, who become brighter at their own paces."""
    grain = np.random.default_rng(seed).integers(0, 30, (200, 400, 3))
    pace = np.repeat([2, 1], 200)[:, None] * seed / 2
    return [Frame(float(n), n, (grain + pace * n).astype(np.uint8)) for n in range(COUNT)]


@pytest.mark.parametrize("fails", [False, True])
def test_late_in_a_long_shot_one_face_in_four_is_scored(*, fails: bool) -> None:
    judge = Detector(Brightness(), Header(name="bright"), torch.device("cpu"), torch.float32)
    # Two videos, so that batches end anywhere in a shot.
    videos = [(footage(seed), Timeline(judge, FaceConfig(blur_threshold=0))) for seed in (1, 2)]
    for start in range(0, COUNT, 9):
        for frames, timeline in videos:
            part = frames[start : start + 9]
            faces = [Face(box, 0.99, ((0.0, 0.0),) * 5) for box in BOXES]  # type: ignore[arg-type]
            timeline.add(part, [faces for _ in part], COUNT)
        fails_next.extend([True] * (fails and start > ALL_UP_TO))
        assert score_waiting(judge, [timeline for _, timeline in videos]) == {}

    scored = [n < ALL_UP_TO or (n - ALL_UP_TO) % THEN_ONE_IN == 0 for n in range(COUNT)]
    for frames, timeline in videos:
        for box in BOXES:
            crops = [crop_face(frame.pixels, box, judge.margin, judge.crop_shape) for frame in frames]
            rows = [row for row in timeline.rows if row.face and row.face.box == box]
            assert [row.note for row in rows] == ["" if one else "long_shot" for one in scored]
            expected = judge.score([crop for crop, one in zip(crops, scored, strict=True) if one])
            np.testing.assert_allclose([row.logit for row in rows if row.logit is not None], expected, atol=2e-3)
