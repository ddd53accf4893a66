"""What the network sees is what its weights were trained on."""

from __future__ import annotations

import numpy as np
import torch
from facenet_pytorch import fixed_image_standardization
from torch.nn import functional

from tests.portraits import FACE_CENTER, portrait
from torchfakes_cli.detector.preprocess import box_part, coarse, resize_crop, to_input
from torchfakes_cli.faces.crops import crop_face


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


def test_crops_are_enlarged_from_their_own_size_where_a_detector_wants_that() -> None:
    crop = np.ascontiguousarray(portrait()[:300, :300])
    small = torch.from_numpy(resize_crop(crop, 80)).permute(2, 0, 1)[None].float() / 255
    expected = functional.interpolate(small, size=(128, 128), mode="bilinear", align_corners=False)
    found = to_input([crop], 128, 0, 255, crop_size=80)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert not torch.allclose(found, to_input([crop], 128, 0, 255), atol=0.05)


def test_a_square_crop_holds_the_one_in_the_boxs_shape() -> None:
    x, y = FACE_CENTER
    box = (x - 40.0, y - 50.0, x + 40.0, y + 50.0)
    for margin in (1.0, 1.4):
        part = box_part(crop_face(portrait(), box, margin), 80, 100)
        assert np.array_equal(part, crop_face(portrait(), box, margin, "box"))


def test_a_coarse_copy_has_the_size_and_the_slopes_of_its_picture() -> None:
    slopes = (
        torch.linspace(-1, 1, 99)[None, None, None].expand(2, 3, 99, 99) + torch.tensor([0.0, 0.3])[:, None, None, None]
    )
    found = coarse(slopes)
    assert found.shape == slopes.shape
    for picture in (slopes, slopes.transpose(2, 3)):
        assert (coarse(picture) - picture)[..., :96, :96].abs().max() < 0.01
    squares = torch.from_numpy(np.indices((96, 96)).sum(0) % 2 * 2.0 - 1).float().expand(1, 3, 96, 96)
    assert coarse(squares).abs().max() < 1e-5
