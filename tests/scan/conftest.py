from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.clips import write_clip
from tests.people import natural, two_people
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector


class Blueness(nn.Module):
    """Takes a face that is more blue than red for a fake: a detector whose right answers are known."""

    def forward(self, pictures: Tensor) -> Tensor:
        means = pictures.mean((2, 3))
        return (means[:, 2] - means[:, 0]) * 20


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector(
        Blueness(), Header(name="blueness", fake_above=0.7, real_below=0.3), torch.device("cpu"), torch.float32
    )


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``both.mp4`` (a real face and, from the second half on, a blue one) and ``empty.mp4`` (no face)."""
    folder = tmp_path_factory.mktemp("scanned")
    write_clip(folder / "both.mp4", (two_people(second=number >= 12) for number in range(24)), fps=12)
    write_clip(folder / "empty.mp4", (natural()[:64, :64] * 0 + 90 for _ in range(6)), fps=12)
    return folder
