"""The cascade as it is exported is the one that a scan uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from torchfakes_cli.export.networks import NETWORKS, CascadeNetwork, planes
from torchfakes_cli.export.parity import CascadeFile, compare_boxes, face_detector, random_crops, read_pictures
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.networks import CandidateNetwork, ProposalNetwork, load_weights

CPU = torch.device("cpu")


class TorchSession:
    """A module of torch in the place of a file."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def run(self, _: None, feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [output.numpy() for output in self.module(torch.from_numpy(feed["pictures"]))]


@pytest.fixture(scope="module")
def sessions() -> list[TorchSession]:
    return [TorchSession(CascadeNetwork(name)) for name in NETWORKS]


def test_its_networks_give_what_those_of_a_scan_give(sessions: list[TorchSession]) -> None:
    pictures = np.stack(random_crops(64, 48))
    logits, offsets = sessions[0].run(None, {"pictures": planes(pictures)})
    expected, shares = ProposalNetwork(load_weights("pnet"), CPU, torch.float32)(torch.from_numpy(pictures))
    assert np.abs(logits - expected.numpy()).max() < 1e-3
    assert np.abs(offsets - shares.permute(0, 3, 1, 2).numpy()).max() < 1e-3
    for name, session, side in zip(NETWORKS[1:], sessions[1:], (24, 48), strict=True):
        crops = np.stack(random_crops(side, side))
        logits, *others = session.run(None, {"pictures": planes(crops)})
        judged = CandidateNetwork(load_weights(name), CPU, torch.float32)(torch.from_numpy(crops)).numpy()
        assert np.abs(1 / (1 + np.exp(-logits)) - judged[:, 0]).max() < 1e-4
        assert np.abs(np.concatenate(others, 1) - judged[:, 1:]).max() < 1e-4


def test_a_scan_finds_the_same_faces_with_them(pictures: Path, sessions: list[TorchSession]) -> None:
    files = face_detector([CascadeFile(*named) for named in zip(NETWORKS, sessions, strict=True)])
    compared = compare_boxes(files, FaceDetector(dtype=torch.float32), read_pictures(pictures))
    assert compared.both == compared.torch == compared.files == compared.pictures == 24
    assert compared.overlap > 0.999
    assert files.detect([np.full((20, 30, 3), 90, np.uint8), np.full((200, 300, 3), 90, np.uint8)]) == [[], []]
