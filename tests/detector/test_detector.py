"""The fast way to score gives the plain way's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.portraits import scene
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, load_network, save_checkpoint
from torchfakes_cli.detector.detector import Detector, choose_device, load_detector
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.preprocess import to_input
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.errors import UsageError


def faces(count: int) -> list[np.ndarray]:
    """Crops of different sizes and contents."""
    rng = np.random.default_rng(0)
    crops = []
    for number in range(count):
        side = int(rng.integers(90, 260))
        crop = scene((side, side), (side / 2, side / 2), side * 0.7)
        crops.append(np.clip(crop * rng.uniform(0.6, 1.2) + rng.normal(0, number, crop.shape), 0, 255).astype(np.uint8))
    return crops


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_network().eval()
    # Random weights hardly react to the picture; a steeper last layer spreads the scores as training would.
    with torch.no_grad():
        network.logits.weight.mul_(30)
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_checkpoint(path, portable_state(network), Header(name="random"))
    return path


def plain_logits(path: Path, crops: list[np.ndarray]) -> np.ndarray:
    """The network as it was trained: float32, batch norm apart, one crop at a time."""
    network, _ = load_network(path)
    with torch.inference_mode():
        return np.array([float(network(to_input([crop], 160))) for crop in crops])


def test_fast_scores_stay_within_a_hundredth_of_plain_ones(checkpoint: Path) -> None:
    detector, crops = load_detector(checkpoint, "cpu"), faces(6)
    expected = [detector.probability(x) for x in plain_logits(checkpoint, crops)]
    found = [detector.probability(float(x)) for x in detector.score(crops)]
    assert np.ptp(expected) > 0.001
    assert found == pytest.approx(expected, abs=0.01)


def test_the_detector_that_ships_scores_the_same_in_its_fast_type() -> None:
    detector, crops = load_detector(device="cpu"), faces(6)
    expected = [detector.probability(x) for x in plain_logits(shipped_checkpoint(), crops)]
    found = [detector.probability(x) for x in detector.score(crops).tolist()]
    assert found == pytest.approx(expected, abs=0.01)


def test_a_score_does_not_depend_on_its_neighbors(checkpoint: Path) -> None:
    detector, crops = load_detector(checkpoint, "cpu"), faces(4)
    together = detector.score(crops)
    apart = np.concatenate([detector.score([crop]) for crop in crops])
    assert together.shape == (4,)
    assert together == pytest.approx(apart, abs=0.05)


def test_the_logit_of_a_coarse_copy_is_subtracted(tmp_path: Path) -> None:
    state, header = load_checkpoint(shipped_checkpoint())
    save_checkpoint(tmp_path / "c.safetensors", state, replace(header, coarse_weight=0.6), torch.float16)
    detector, plain = load_detector(tmp_path / "c.safetensors", "cpu"), load_detector(device="cpu")
    across, down = np.meshgrid(np.arange(160) // 8, np.arange(160) // 8)
    blocks = np.repeat((40 + across * 5 + down * 4)[..., None], 3, 2).astype(np.uint8)
    # Detail that changes every two pixels is no part of a block's mean or slope.
    detail = ((np.indices((160, 160)) // 2).sum(0) % 2 * 20)[..., None].astype(np.uint8)
    own, detailed, flat = plain.score([blocks, blocks + detail, blocks + np.uint8(10)])
    assert abs(detailed - flat) > 0.5
    found = detector.score([blocks, blocks + detail])
    assert found == pytest.approx([0.4 * own, detailed - 0.6 * flat], abs=0.05)


def test_no_crops_no_scores(checkpoint: Path) -> None:
    assert load_detector(checkpoint, "cpu").score([]).shape == (0,)


def test_the_detector_says_what_its_checkpoint_says(tmp_path: Path) -> None:
    header = Header(name="mine", margin=1.5, slope=2.0, intercept=-1.0, fake_above=0.8, real_below=0.3)
    save_checkpoint(tmp_path / "c.safetensors", portable_state(build_network()), header)
    detector = load_detector(tmp_path / "c.safetensors", "cpu")
    assert (detector.name, detector.margin, detector.fake_above, detector.real_below) == ("mine", 1.5, 0.8, 0.3)
    assert detector.probability(0.5) == 0.5


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        choose_device(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_scores_as_the_cpu_does(checkpoint: Path) -> None:
    crops = faces(6)
    on_cpu = load_detector(checkpoint, "cpu")
    on_cuda: Detector = load_detector(checkpoint, "cuda")
    expected = [on_cpu.probability(float(x)) for x in on_cpu.score(crops)]
    assert [on_cuda.probability(float(x)) for x in on_cuda.score(crops)] == pytest.approx(expected, abs=0.02)
