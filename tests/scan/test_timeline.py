"""From faces to scored rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchfakes_cli.config import FaceConfig
from torchfakes_cli.detector import Detector, Header
from torchfakes_cli.detector.spreads import Spreads
from torchfakes_cli.detector.texture import LENGTH, USUAL, Texture, describe
from torchfakes_cli.faces import crop_face
from torchfakes_cli.records import Box, Face, Frame
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.timeline import NETWORK_EACH, NETWORK_FIRST, Scoring, Timeline

#: Two people; their crops reach a little further.
BOXES: tuple[Box, Box] = ((50.0, 50.0, 150.0, 150.0), (250.0, 50.0, 350.0, 150.0))
COUNT = NETWORK_FIRST + 2 * NETWORK_EACH + 3


#: Holds an item where the network is to fail next.
fails_next: list[bool] = []


class Brightness(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        if fails_next:
            raise RuntimeError(f"out of memory: {fails_next.pop()}")
        return 10 * pictures.mean((1, 2, 3))


def detector(network_weight: float) -> Detector:
    rng = np.random.default_rng(0)
    directions = rng.normal(0, 0.02, (3, LENGTH)).astype(np.float32)
    none = np.zeros(LENGTH, np.float32)
    texture = Texture(directions, none[:3], none, 1, network_weight, Spreads.none(3, LENGTH))
    return Detector(Brightness(), Header(name="bright"), torch.device("cpu"), torch.float32, texture)


def footage(seed: int) -> list[Frame]:
    """Two people, who become brighter at their own paces."""
    grain = np.random.default_rng(seed).integers(0, 30, (200, 400, 3))
    pace = np.repeat([2, 1], 200)[:, None] * seed / 2
    return [Frame(float(n), n, (grain + pace * n).astype(np.uint8)) for n in range(COUNT)]


def face(box: Box, side: int) -> Face:
    corner = np.array(box[:2]) - (side - 100) / 2
    return Face(box, 0.99, tuple((x, y) for x, y in (USUAL * side + corner).tolist()))  # type: ignore[arg-type]


@pytest.mark.parametrize(("network_weight", "fails"), [(0.1, False), (0.1, True), (0.5, False)])
def test_late_in_a_shot_a_network_that_counts_little_judges_each_eighth_face(
    network_weight: float, *, fails: bool
) -> None:
    judge = detector(network_weight)
    side = crop_face(np.zeros((200, 400, 3), np.uint8), BOXES[0], judge.margin, judge.crop_shape).shape[0]
    scoring = Scoring(judge, Profile(), lambda: None)
    # Two videos, so that batches end anywhere in a shot.
    videos = [(footage(seed), Timeline(scoring, FaceConfig(blur_threshold=0))) for seed in (1, 2)]
    for start in range(0, COUNT, 9):
        for frames, timeline in videos:
            part = frames[start : start + 9]
            timeline.add(part, [[face(box, side) for box in BOXES] for _ in part], COUNT)
        fails_next.extend([True] * (fails and start > NETWORK_FIRST))
        scoring.begin(shared=False)
        assert scoring.enter() == []
    scoring.close()

    judged = list(range(COUNT))
    if network_weight == 0.1:
        judged = [n if n < NETWORK_FIRST else n - (n - NETWORK_FIRST) % NETWORK_EACH for n in judged]
    assert judge.texture is not None
    for frames, timeline in videos:
        for box in BOXES:
            crops = [crop_face(frame.pixels, box, judge.margin, judge.crop_shape) for frame in frames]
            described = np.stack([describe(crop, USUAL * side) for crop in crops])
            expected = judge.texture.joined(judge.network_logits(crops)[judged], described)
            rows = [row.logit for row in timeline.rows if row.face and row.face.box == box]
            np.testing.assert_allclose(rows, expected, rtol=0, atol=2e-3)
