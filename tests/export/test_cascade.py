"""The cascade as it is converted is the one that a scan uses, and so is the way the example drives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.portraits import scene
from torchfakes_cli.detector.preprocess import resize_crop
from torchfakes_cli.export import example
from torchfakes_cli.export.cascade import NETWORKS, CascadeNetwork
from torchfakes_cli.export.facts import cascade_facts
from torchfakes_cli.export.samples import random_crops, read_pictures
from torchfakes_cli.faces.crops import crop_face, sharpness
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.networks import CandidateNetwork, ProposalNetwork, load_weights
from torchfakes_cli.faces.options import SHARPNESS_SIZE

CPU = torch.device("cpu")


class TorchSession:
    """A module of torch where the example expects a file."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def run(self, _: None, feed: dict[str, NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        with torch.inference_mode():
            return [output.numpy() for output in self.module(torch.from_numpy(feed["pictures"]))]


@pytest.fixture(scope="module")
def sessions() -> list[TorchSession]:
    return [TorchSession(CascadeNetwork(name)) for name in NETWORKS]


def test_its_networks_give_what_those_of_a_scan_give(sessions: Sequence[TorchSession]) -> None:
    pictures = np.stack(random_crops(64, 48))
    logits, offsets = sessions[0].run(None, {"pictures": example.planes(pictures)})
    expected, shares = ProposalNetwork(load_weights("pnet"), CPU, torch.float32)(torch.from_numpy(pictures))
    assert np.abs(logits - expected.numpy()).max() < 1e-3
    assert np.abs(offsets - shares.permute(0, 3, 1, 2).numpy()).max() < 1e-3
    for name, session, side in zip(NETWORKS[1:], sessions[1:], (24, 48), strict=True):
        crops = np.stack(random_crops(side, side))
        logits, *others = session.run(None, {"pictures": example.planes(crops)})
        judged = CandidateNetwork(load_weights(name), CPU, torch.float32)(torch.from_numpy(crops)).numpy()
        assert np.abs(1 / (1 + np.exp(-logits)) - judged[:, 0]).max() < 1e-4
        assert np.abs(np.concatenate(others, 1) - judged[:, 1:]).max() < 1e-4


def test_the_example_finds_the_faces_that_a_scan_finds(pictures: Path, sessions: Sequence[TorchSession]) -> None:
    detector = FaceDetector(dtype=torch.float32)
    for picture in read_pictures(pictures):
        expected = detector.detect([picture])[0]
        found = example.find_faces(picture, sessions, cascade_facts("fp32"))
        assert len(found) == len(expected) == 1
        assert found[0].box == pytest.approx(expected[0].box, abs=0.005 * expected[0].size)
        assert found[0].landmarks == pytest.approx(np.array(expected[0].landmarks), abs=0.005 * expected[0].size)
        assert found[0].confidence == pytest.approx(expected[0].confidence, abs=1e-3)


@pytest.mark.parametrize("size", [(300, 200), (20, 20), (5, 400)])
def test_the_example_finds_nothing_in_a_picture_without_a_face(
    size: tuple[int, int], sessions: Sequence[TorchSession]
) -> None:
    grey = np.full((size[1], size[0], 3), 90, np.uint8)
    assert example.find_faces(grey, sessions, cascade_facts("fp32")) == []


@pytest.mark.parametrize("shape", ["square", "box"])
@pytest.mark.parametrize("box", [(60.0, 40.0, 130.0, 135.0), (-20.0, -9.0, 80.0, 60.0), (250.0, 150.0, 330.0, 260.0)])
def test_the_example_cuts_as_a_scan_does(box: tuple[float, float, float, float], shape: str) -> None:
    picture = scene((300, 200), (150, 100), 80)
    expected = crop_face(picture, box, 1.3, shape)
    crop = example.cut_face(picture, np.array(box), {"shape": shape, "margin": 1.3, "beyond": 0})
    assert np.array_equal(crop, expected)
    resized = resize_crop(expected, 80).transpose(2, 0, 1)[None]
    assert np.array_equal(example.detector_input(crop, 80), resized)
    assert example.sharpness(crop, SHARPNESS_SIZE) == sharpness(crop)
