"""Masks say where a picture was manipulated, lie where the picture shows it, and teach a network to tell."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.crop_folders import SIDE, write_crops
from tests.training.test_train import TINY
from torchfakes_cli.detector import load_checkpoint
from torchfakes_cli.detector.network import build_network, load_weights, portable_state
from torchfakes_cli.training import train_detector
from torchfakes_cli.training.crops.manifest import read_manifest
from torchfakes_cli.training.fitting.augment import Augmentation
from torchfakes_cli.training.fitting.couples import CoupleDataset
from torchfakes_cli.training.fitting.data import MASK_SIZE
from torchfakes_cli.training.fitting.localise import Localising, detector_state, mask_loss
from torchfakes_cli.training.fitting.plain import PlainDataset


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("crops"), {"train": 3, "val": 2, "test": 1})


def test_the_mask_of_a_fake_is_where_it_differs_from_its_original(crops: Path) -> None:
    dataset = CoupleDataset(read_manifest(crops), crops, replace(TINY, input_size=SIDE), 40)
    for number in range(20):
        drawn = dataset[number]
        real, fake = drawn.masks.numpy()
        assert not real.any(), "nothing of a real face is manipulated"
        first, second = drawn.pictures.numpy().astype(int)
        differs = np.abs(first - second).mean(2).reshape(MASK_SIZE, 6, MASK_SIZE, 6).mean((1, 3))
        assert fake[differs > 20].min() >= 0.5
        assert (fake[differs < 0.1] < 0.5).all()
        assert fake[0].max() == fake[-1].max() == 0, "hair and shoulders stay"


def test_a_mask_goes_where_its_picture_goes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        place = rng.integers(8, 120, 2)
        mask = np.zeros((160, 160), np.float32)
        mask[place[0] : place[0] + 30, place[1] : place[1] + 30] = 1
        changes = replace(Augmentation.draw("light", rng), tone=Augmentation.tone_of_nothing(), jpeg=0)
        picture = changes.apply(np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2), 160)
        shown = picture[..., 0].reshape(16, 10, 16, 10).mean((1, 3)) / 255
        assert np.abs(changes.place(mask, 16) - shown).max() < 0.2


def test_what_was_done_to_a_single_fake_is_not_known(crops: Path) -> None:
    dataset = PlainDataset(read_manifest(crops), crops, replace(TINY, sampling="plain", ranking=0.0), 40)
    for number in range(10):
        drawn = dataset[number]
        assert bool(drawn.masks.isnan().all()) == bool(drawn.labels)
        assert bool((drawn.masks == 0).all()) != bool(drawn.labels)


def test_places_nobody_knows_of_teach_nothing() -> None:
    logits = torch.randn(2, 9, requires_grad=True)
    masks = torch.full((2, 6, 6), torch.nan)
    masks[0] = 1
    masks[0, 0, 0] = torch.nan
    loss = mask_loss(logits, masks)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).sum() == 1 + 9
    assert torch.allclose(loss, nn.functional.softplus(-logits[0, 1:]).mean())
    assert mask_loss(logits.detach(), torch.full((2, 6, 6), torch.nan)) == 0


def test_a_network_scores_the_same_with_and_without_its_map() -> None:
    torch.manual_seed(0)
    localising = Localising(0.0)
    pictures = torch.randn(2, 3, 75, 75)
    plain = build_network(dropout=0.0)
    load_weights(plain, detector_state(localising))
    assert detector_state(localising).keys() == portable_state(plain).keys()
    with torch.no_grad():
        assert torch.equal(localising.eval()(pictures), plain.eval()(pictures))
        assert torch.allclose(copy.deepcopy(localising).train()(pictures)[:, :1], plain.train()(pictures), atol=1e-5)


@pytest.mark.slow
def test_training_with_masks_learns_and_leaves_a_plain_detector(crops: Path, tmp_path: Path) -> None:
    summary = train_detector(crops, replace(TINY, out=str(tmp_path), mask_loss=1.0))
    assert summary.test is not None
    assert summary.test.frame_auc is not None
    assert summary.test.frame_auc > 0.9
    state, header = load_checkpoint(tmp_path / "best.safetensors")
    load_weights(build_network(), state)
    assert header.training["config"]["mask_loss"] == 1.0
    train_detector(crops, replace(TINY, out=str(tmp_path / "on"), start=str(tmp_path / "best.safetensors"), epochs=1))
