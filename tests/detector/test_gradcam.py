"""Grad-CAM maps cover the crop, lie where the evidence is, and depend on the weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from tests.portraits import FACE_CENTER, portrait
from torchfakes_cli.detector.checkpoint import Header, load_network
from torchfakes_cli.detector.gradcam import GradCam, load_gradcam
from torchfakes_cli.detector.network import EfficientNetLite0, InceptionResnetV1, build_network
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.faces.crops import crop_face

CPU = torch.device("cpu")


def face(shift: float = 0.0) -> np.ndarray:
    x, y = FACE_CENTER
    return crop_face(portrait(), (x - 45 + shift, y - 55, x + 45 + shift, y + 55), 1.3)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """The one that ships."""
    return load_network(shipped_checkpoint())[0]


def gradcam(network: nn.Module, input_size: int = 160) -> GradCam:
    return GradCam(network, Header(name="maps", input_size=input_size), CPU)


@pytest.mark.parametrize(
    ("architecture", "input_size", "places"),
    [
        ("InceptionResnetV1", 160, 17),
        ("InceptionResnetV1", 75, 7),
        ("EfficientNetLite0", 160, 10),
        ("EfficientNetLite0", 224, 14),
    ],
)
def test_maps_cover_the_crop_and_sum_to_one(architecture: str, input_size: int, places: int) -> None:
    torch.manual_seed(0)
    maps = gradcam(build_network(architecture), input_size)
    assert maps.places(face()).shape == (places, places)
    fake, real = maps(face())
    for heat in (fake, real):
        assert heat.shape == (input_size, input_size)
        assert heat.min() >= 0
        assert heat.sum() == pytest.approx(1, abs=1e-4) or not heat.any()
    assert fake.any() or real.any()


@pytest.mark.parametrize("kind", [InceptionResnetV1, EfficientNetLite0])
def test_places_lie_where_the_layers_put_them(kind: type[InceptionResnetV1] | type[EfficientNetLite0]) -> None:
    """In a network that only averages, what a place sees lies evenly around the point where the map shows it."""
    averaging, side = kind(dropout=0.0).eval(), 352
    for layer in averaging.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    if isinstance(averaging, InceptionResnetV1):
        averaging.maxpool_3a = nn.AvgPool2d(3, 2)
    maps = gradcam(averaging, side)
    found: list[torch.Tensor] = []
    averaging.get_submodule(maps._layer).register_forward_hook(lambda layer, inputs, output: found.append(output))
    pictures = torch.full((1, 3, side, side), 0.01, requires_grad=True)  # far from where ReLU6 saturates
    averaging(pictures)
    place = found[0].shape[-1] // 2
    (seen,) = torch.autograd.grad(found[0][0, :, place, place].sum(), pictures)
    weights = seen[0].sum((0, 1)).double()
    center = float((weights * torch.arange(side)).sum() / weights.sum())
    only_it = np.zeros(found[0].shape[2:], np.float32)
    only_it[place, place] = 1
    assert abs(float(maps._enlarged(only_it).sum(0) @ np.arange(side)) - center) < 2


@pytest.mark.slow
def test_randomised_weights_change_the_map(network: nn.Module) -> None:
    """As in Adebayo et al., "Sanity Checks for Saliency Maps" (2018)."""

    def places(network: nn.Module) -> np.ndarray:
        maps = gradcam(network)
        return np.concatenate([maps.places(face(shift)).ravel() for shift in (-20, 0, 20)])

    own, correlations = places(network), []
    for seed in range(3):
        torch.manual_seed(seed)
        changed = copy.deepcopy(network)
        changed.apply(randomise)
        correlations.append(abs(spearmanr(own, places(changed)).statistic))
    assert spearmanr(own, places(network)).statistic == pytest.approx(1)
    assert np.mean(correlations) < 0.5, correlations


def randomise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        layer.reset_parameters()


def test_the_detector_that_ships_has_maps() -> None:
    fake, real = load_gradcam(device="cpu")(face())
    assert fake.any() or real.any()
