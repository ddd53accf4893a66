"""Heat maps say where the logit comes from, and depend on the weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from tests.portraits import FACE_CENTRE, portrait
from torchfakes_cli.detector import Header, HeatMaps, load_checkpoint, load_detector, load_heat_maps
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import blank_network, load_weights
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.detector.texture import split_texture
from torchfakes_cli.faces import crop_face

CPU = torch.device("cpu")
#: From the output down, as in Adebayo et al., "Sanity Checks for Saliency Maps" (2018).
CASCADE = ("logits", "last_bn", "last_linear", "block8", "repeat_3", "mixed_7a", "repeat_2")


def face(shift: float = 0.0) -> np.ndarray:
    x, y = FACE_CENTRE
    return crop_face(portrait(), (x - 45 + shift, y - 55, x + 45 + shift, y + 55), 1.3)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """The one that ships."""
    network = blank_network()
    load_weights(network, split_texture(load_checkpoint(shipped_checkpoint())[0])[0])
    return network


def maps_of(network: nn.Module, input_size: int = 160) -> HeatMaps:
    return HeatMaps(network, Header(name="maps", input_size=input_size), CPU)


def test_the_cells_add_up_to_the_logit_but_for_a_constant(network: nn.Module) -> None:
    heat_maps = maps_of(network)
    rest = []
    for shift in (-20, 0, 20):
        with torch.no_grad():
            logit = network(heat_maps.input_of(face(shift))).item()
        rest.append(logit - float(heat_maps.cells(face(shift)).sum()))
    assert rest == pytest.approx([rest[0]] * 3, abs=1e-4)


@pytest.mark.parametrize(("input_size", "cells"), [(75, 1), (106, 1), (107, 2), (160, 3), (224, 5)])
def test_maps_cover_the_crop_and_sum_to_one(network: nn.Module, input_size: int, cells: int) -> None:
    heat_maps = maps_of(network, input_size)
    assert heat_maps.cells(face()).shape == (cells, cells)
    fake, real = heat_maps(face())
    for heat in (fake, real):
        assert heat.shape == (input_size, input_size)
        assert heat.min() >= 0
        assert heat.sum() == pytest.approx(1, abs=1e-4) or not heat.any()
    assert fake.any() or real.any()
    assert heat_maps.even.shape == fake.shape
    assert heat_maps.even.sum() == pytest.approx(1, abs=1e-4)


def test_cells_lie_where_the_layers_put_them() -> None:
    """In a network that only averages, what a cell sees lies evenly around the place that it is laid over."""
    averaging = InceptionResnetV1(dropout=0.0).eval()
    for layer in averaging.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    averaging.maxpool_3a = averaging.mixed_6a.branch2 = averaging.mixed_7a.branch3 = nn.AvgPool2d(3, 2)
    side, cell = 352, 4
    found: list[torch.Tensor] = []
    averaging.block8.register_forward_hook(lambda layer, inputs, output: found.append(output))
    pictures = torch.ones(1, 3, side, side, requires_grad=True)
    averaging(pictures)
    (seen,) = torch.autograd.grad(found[0][0, :, cell, cell].sum(), pictures)
    weights = seen[0].sum((0, 1)).double()
    centre = float((weights * torch.arange(side)).sum() / weights.sum())
    only_it = np.zeros((9, 9), np.float32)
    only_it[cell, cell] = 1
    laid = maps_of(averaging, side)._laid_out(only_it)
    assert abs(float(laid.sum(0) @ np.arange(side)) - centre) < 2


def test_randomised_weights_change_the_map(network: nn.Module) -> None:
    """By rank correlation, once the last layers are random. The very last one alone hardly changes it: see README."""

    def cells(network: nn.Module) -> np.ndarray:
        heat_maps = maps_of(network)
        return np.concatenate([heat_maps.cells(face(shift)).ravel() for shift in (-20, 0, 20)])

    own, correlations = cells(network), []
    for seed in range(3):
        torch.manual_seed(seed)
        changed = copy.deepcopy(network)
        for name in CASCADE:
            changed.get_submodule(name).apply(randomise)
        correlations.append(abs(spearmanr(own, cells(changed)).statistic))
    assert spearmanr(own, cells(network)).statistic == pytest.approx(1)
    assert np.mean(correlations) < 0.5, correlations


def randomise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        layer.reset_parameters()


@pytest.mark.slow
def test_the_network_of_the_maps_is_the_one_that_scores() -> None:
    heat_maps, detector = load_heat_maps(device="cpu"), load_detector(device="cpu")
    crops = [face(shift) for shift in (-20, 0, 20)]
    logits = [heat_maps.cells(crop).sum() for crop in crops]
    rest = detector.network_logits(crops) - np.array(logits)
    assert np.ptp(rest) < 0.1
    assert np.ptp(logits) > 0.3
