"""From faces to scored rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchfakes_cli.config import FaceConfig
from torchfakes_cli.detector import Detector, Header
from torchfakes_cli.detector.texture import LENGTH, USUAL, Texture, describe
from torchfakes_cli.faces import crop_face
from torchfakes_cli.records import Face, Frame
from torchfakes_cli.scan.profile import Profile
from torchfakes_cli.scan.timeline import NETWORK_EACH, NETWORK_FIRST, Scoring, Timeline

BOX = (50.0, 50.0, 150.0, 150.0)
COUNT = NETWORK_FIRST + 2 * NETWORK_EACH + 1


class Brightness(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return 10 * pictures.mean((1, 2, 3))


def detector(network_weight: float) -> Detector:
    rng = np.random.default_rng(0)
    directions = rng.normal(0, 0.02, (3, LENGTH)).astype(np.float32)
    texture = Texture(directions, np.zeros(3, np.float32), np.zeros(LENGTH, np.float32), 1, network_weight)
    return Detector(Brightness(), Header(name="bright"), torch.device("cpu"), torch.float32, texture)


@pytest.mark.parametrize("network_weight", [0.1, 0.5])
def test_late_in_a_long_shot_a_network_that_counts_little_judges_some_faces_for_others(network_weight: float) -> None:
    judge = detector(network_weight)
    grain = np.random.default_rng(1).integers(0, 30, (200, 200, 3))
    frames = [Frame(float(n), n, (grain + 2 * n).astype(np.uint8)) for n in range(COUNT)]
    crops = [crop_face(frame.pixels, BOX, judge.margin, judge.crop_shape) for frame in frames]
    landmarks = USUAL * crops[0].shape[0]
    corner = (200 - crops[0].shape[0]) / 2
    points = tuple((x + corner, y + corner) for x, y in landmarks.tolist())
    face = Face(BOX, 0.99, points)  # type: ignore[arg-type]

    scoring = Scoring(judge, Profile(), lambda: None)
    timeline = Timeline(scoring, FaceConfig(blur_threshold=0))
    timeline.add(frames, [[face]] * COUNT, COUNT)
    scoring.begin(shared=False)
    assert scoring.enter() == []
    scoring.close()

    judged = list(range(COUNT))
    if network_weight == 0.1:
        judged = [n if n < NETWORK_FIRST else n - (n - NETWORK_FIRST) % NETWORK_EACH for n in judged]
    assert judge.texture is not None
    described = np.stack([describe(crop, landmarks) for crop in crops])
    expected = judge.texture.joined(judge.network_logits(crops)[judged], described)
    np.testing.assert_allclose([row.logit for row in timeline.rows], expected, rtol=0, atol=2e-3)
