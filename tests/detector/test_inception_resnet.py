"""The network computes what facenet-pytorch's does, fused or not."""

from __future__ import annotations

import copy

import pytest
import torch
from facenet_pytorch import InceptionResnetV1 as PublicNetwork

from torchfakes_cli.detector import fused
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import fold_batch_norm


def pair() -> tuple[InceptionResnetV1, torch.nn.Module]:
    """Ours and the public one, with the same random weights and batch norms that do something."""
    torch.manual_seed(0)
    public = PublicNetwork(classify=True, num_classes=1, dropout_prob=0.0)
    for norm in public.modules():
        if isinstance(norm, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
    with torch.no_grad():
        public.logits.weight.mul_(300)  # random weights hardly react to the picture
    own = InceptionResnetV1(dropout=0.0)
    own.load_state_dict({n: v for n, v in public.state_dict().items() if not n.startswith("classify")})
    return own, public


@pytest.mark.parametrize("training", [False, True])
def test_it_computes_what_the_public_network_does(training: bool) -> None:
    own, public = pair()
    pictures = torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        expected = public.train(training)(pictures)
        assert torch.allclose(own.train(training)(pictures), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.01


def test_weights_of_one_fit_the_other() -> None:
    own, public = pair()
    shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in public.state_dict().items()}


def test_fused_convolutions_compute_the_same() -> None:
    own = fold_batch_norm(pair()[0].eval().requires_grad_(False)).to(memory_format=torch.channels_last)
    pictures = torch.randn(3, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    quick = fused.fuse(copy.deepcopy(own))
    with torch.inference_mode():
        expected, before = own(pictures), pictures.clone()
        assert expected.std() > 0.01
        assert torch.allclose(quick(pictures), expected, rtol=1e-3, atol=1e-4)
        assert torch.equal(pictures, before)
        assert torch.equal(quick(pictures), quick(pictures))
