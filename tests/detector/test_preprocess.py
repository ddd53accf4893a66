"""What the network sees is what its weights were trained on."""

from __future__ import annotations

import numpy as np
import torch
from facenet_pytorch import fixed_image_standardization

from tests.portraits import portrait
from torchfakes_cli.detector.preprocess import to_input


def test_values_are_standardised_as_facenet_pytorch_does() -> None:
    crop = np.ascontiguousarray(portrait()[:160, :160])
    expected = fixed_image_standardization(torch.from_numpy(crop).permute(2, 0, 1).float())
    assert torch.equal(to_input([crop], 160)[0], expected)


def test_crops_of_any_size_become_one_batch() -> None:
    crops = [np.ascontiguousarray(portrait()[:side, :side]) for side in (40, 160, 512)]
    batch = to_input(crops, 128)
    assert batch.shape == (3, 3, 128, 128)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[::2] = 255
    batch = to_input([stripes], 160)
    assert batch.abs().max() < 0.01
