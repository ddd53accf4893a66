"""A self-blended fake differs from its real twin in the face and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.portraits import scene
from torchfakes_cli.training.evaluate.perturb import jpeg_round_trip
from torchfakes_cli.training.fit.augment import Augmentation
from torchfakes_cli.training.fit.self_blend import Portrait, blending_mask, self_blend

SIDE = 200
LANDMARKS = np.array([(77.0, 88.0), (125.0, 88.0), (102.0, 111.0), (81.0, 135.0), (121.0, 135.0)])


@pytest.fixture(scope="module")
def target() -> Portrait:
    return Portrait(scene((SIDE, SIDE), (SIDE / 2, SIDE / 2), SIDE * 0.68), LANDMARKS)


def test_it_changes_the_face_and_leaves_the_rest(target: Portrait) -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    center = LANDMARKS.mean(0)
    far = np.hypot(columns - center[0], rows - center[1]) > 95
    near = np.hypot(columns - center[0], rows - center[1]) < 20
    changed = []
    for seed in range(30):
        real, fake, mask = self_blend(target, np.random.default_rng(seed))
        assert real.shape == fake.shape == target.pixels.shape
        difference = np.abs(real.astype(int) - fake.astype(int)).max(2)
        assert difference[far].max() <= 3
        assert difference[mask < 0.002].max() <= 3
        changed.append(difference[near].mean())
    assert np.mean(np.array(changed) > 1) > 0.8


def test_the_same_draw_gives_the_same_fake(target: Portrait) -> None:
    first, again = (self_blend(target, np.random.default_rng(5))[1] for _ in range(2))
    assert np.array_equal(first, again)


def test_masks_vary_and_stay_on_the_face(target: Portrait) -> None:
    masks = [blending_mask(SIDE, target.landmarks, np.random.default_rng(seed)) for seed in range(30)]
    for mask in masks:
        assert mask.min() >= 0
        assert mask.max() == pytest.approx(1)
        assert max(mask[:5].max(), mask[:, :5].max(), mask[:, -5:].max()) < 0.02
    areas = [float(mask.mean()) for mask in masks]
    assert max(areas) > 2 * min(areas)


def test_a_donors_face_takes_the_targets_place(target: Portrait) -> None:
    flipped = Portrait(
        np.ascontiguousarray(np.clip(target.pixels[:, ::-1] * 0.6, 0, 255).astype(np.uint8)),
        (LANDMARKS * (-1, 1) + (SIDE - 1, 0))[[1, 0, 2, 4, 3]],
    )
    real, fake, _ = self_blend(target, np.random.default_rng(3), donor=flipped)
    assert np.array_equal(real, target.pixels)
    assert np.abs(real.astype(int) - fake.astype(int)).mean() > 1


def test_a_gray_picture_stays_gray(target: Portrait) -> None:
    gray = np.repeat(target.pixels.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    for seed in range(10):
        for picture in self_blend(Portrait(gray, LANDMARKS), np.random.default_rng(seed))[:2]:
            assert np.ptp(picture.astype(int), axis=2).max() == 0


def test_landmarks_on_one_spot_do_no_harm(target: Portrait) -> None:
    broken = Portrait(target.pixels, np.full((5, 2), 50.0))
    _, fake, _ = self_blend(target, np.random.default_rng(0), donor=broken)
    assert fake.shape == target.pixels.shape


@pytest.mark.parametrize("level", ["none", "light", "strong"])
def test_real_and_fake_go_through_the_same_changes(target: Portrait, level: str) -> None:
    for seed in range(15):
        changes = Augmentation.draw(level, np.random.default_rng(seed))  # type: ignore[arg-type]
        first, second = changes.apply(target.pixels, 96), changes.apply(target.pixels.copy(), 96)
        assert first.shape == (96, 96, 3)
        assert np.array_equal(first, second)


def test_no_augmentation_only_resizes(target: Portrait) -> None:
    changes = Augmentation.draw("none", np.random.default_rng(0))
    assert np.array_equal(changes.apply(target.pixels, SIDE), target.pixels)


def test_jpeg_keeps_colors_and_loses_more_at_lower_quality(target: Portrait) -> None:
    loss = [np.abs(jpeg_round_trip(target.pixels, q).astype(int) - target.pixels).mean() for q in (95, 60, 20)]
    assert loss == sorted(loss)
    assert loss[0] < 3
