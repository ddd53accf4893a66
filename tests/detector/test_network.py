"""The networks compute what the public ones do, alone and together."""

from __future__ import annotations

import sys

import pytest
import torch
from facenet_pytorch import InceptionResnetV1 as PublicNetwork

from torchfakes_cli.detector.network import (
    EfficientNetLite0,
    InceptionResnetV1,
    build_network,
    fold_batch_norm,
)
from torchfakes_cli.errors import ModelError


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


@pytest.mark.parametrize(("training", "side"), [(False, 160), (False, 161), (True, 96)])
def test_efficientnet_lite_computes_what_timms_does(training: bool, side: int) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    public, own = timm.create_model("tf_efficientnet_lite0", num_classes=1), EfficientNetLite0(dropout=0.0)
    own.load_state_dict(public.state_dict())
    pictures = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = public.train(training)(pictures)
        assert torch.allclose(own.train(training)(pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "features"),
    [("InceptionResnetV1", 1792), ("EfficientNetLite0", 1280)],
)
def test_every_architecture_gives_a_logit_and_pooled_features(architecture: str, features: int) -> None:
    network, pictures = build_network(architecture).eval().requires_grad_(False), torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        logits = network(pictures)
        assert logits.shape == (2, 1)
        assert network.pooled(pictures).shape == (2, features)
        assert torch.allclose(fold_batch_norm(network)(pictures), logits, atol=1e-4)


def test_a_model_of_timm_gives_a_logit_and_pooled_features() -> None:
    pytest.importorskip("timm")
    network, pictures = build_network("timm:resnet18").eval(), torch.randn(2, 3, 96, 96)
    assert (network(pictures).shape, network.pooled(pictures).shape) == ((2, 1), (2, 512))
    with pytest.raises(ModelError, match="no model 'nosuch'"):
        build_network("timm:nosuch")


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"pip install 'torchfakes\[timm\]'"):
        build_network("timm:resnet18")


@pytest.mark.parametrize(
    "name", ["Xception", "timm:hf-hub:someone/model", "timm:local-dir:x", "", "InceptionResnetV1+EfficientNetLite0"]
)
def test_an_unknown_architecture_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no network of the kind"):
        build_network(name)
