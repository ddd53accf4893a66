"""Detectors that want the box itself get it from square crops, and trainings keep what their start expects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.crop_folders import write_crops
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.preprocess import box_part
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import read_crop, read_manifest
from torchfakes_cli.training.evaluate.scores import score_conditions
from torchfakes_cli.training.fit.start import starting_point
from torchfakes_cli.training.fit.train import train_detector


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("crops"), {"train": 2, "val": 2, "test": 1}, frames=3)


def save_boxed(path: Path) -> Path:
    torch.manual_seed(5)
    header = Header(name="boxed", input_size=96, crop_size=80, crop_shape="box", mean=0, scale=255)
    save_checkpoint(path, portable_state(build_network()), header, torch.float16)
    return path


def test_an_evaluation_gives_a_detector_the_shape_it_was_trained_on(crops: Path, tmp_path: Path) -> None:
    detector = load_detector(save_boxed(tmp_path / "c.safetensors"), "cpu")
    table = read_manifest(crops).iloc[:4]
    found = score_conditions([detector], table, crops)[0][None][0]
    pictures = [read_crop(crops / name) for name in table["crop"]]
    # All of their boxes are 70 pixels wide and 80 high.
    assert np.allclose(found, detector.score([box_part(picture, 70, 80) for picture in pictures]), atol=1e-5)
    assert not np.allclose(found, detector.score(pictures), atol=1e-5)


def boxed_config(tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        start=str(save_boxed(tmp_path / "start.safetensors")), out=str(tmp_path / "run"), epochs=1,
        samples_per_epoch=8, batch=4, workers=0, augment="none", self_blend=0.0, device="cpu",
    )  # fmt: skip


def test_a_training_expects_what_its_start_does_until_told_otherwise(crops: Path, tmp_path: Path) -> None:
    config = boxed_config(tmp_path)
    header = starting_point(config, crops, [])[1]
    assert (header.input_size, header.crop_size, header.mean, header.scale) == (96, 80, 0, 255)
    # Its crops are squares.
    assert header.crop_shape == "square"
    header = starting_point(replace(config, input_size=75), crops, [])[1]
    assert (header.input_size, header.crop_size) == (75, 0)


@pytest.mark.slow
def test_a_training_enlarges_crops_as_a_scan_does(crops: Path, tmp_path: Path) -> None:
    header = load_checkpoint(Path(train_detector(crops, boxed_config(tmp_path)).last))[1]
    assert (header.input_size, header.crop_size) == (96, 80)
