from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.portraits import scene
from torchfakes_cli.detector.checkpoint import Header, save_checkpoint
from torchfakes_cli.detector.network import build_network, portable_state


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """A detector with random weights that enlarges small crops and compares them with coarse copies."""
    torch.manual_seed(2)
    header = Header(
        name="small", input_size=96, crop_size=80, mean=0, scale=255, slope=3, intercept=0.5, coarse_weight=0.5
    )
    save_checkpoint(tmp_path / "small.safetensors", portable_state(build_network()), header, torch.float16)
    return tmp_path / "small.safetensors"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of a face, large and small, some near the border, dark and bright."""
    folder = tmp_path_factory.mktemp("pictures")
    places = [
        ((320, 240), (160.0, 120.0), 110.0),
        ((400, 300), (90.0, 160.0), 60.0),
        ((301, 203), (240.0, 90.0), 90.0),
        ((640, 360), (400.0, 180.0), 200.0),
        ((256, 256), (70.0, 120.0), 130.0),
        ((500, 333), (333.0, 99.0), 75.0),
    ]
    # Calibration needs pictures that differ.
    for light in (0.5, 0.8, 1.0, 1.4):
        for number, (size, center, height) in enumerate(places):
            picture = (scene(size, center, height) * light).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{light}-{number}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return folder
