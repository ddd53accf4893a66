"""Classifier networks for face crops, by name of their architecture, with one logit that is positive for fake.

An architecture is ``InceptionResnetV1``, ``EfficientNetLite0``, ``timm:NAME`` for a model of the timm library, or
several of them joined by ``+``, whose logits are averaged.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from torchfakes_cli.detector.efficientnet_lite import EfficientNetLite0
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.errors import CheckpointError, ModelError

#: Default architecture of training.
ARCHITECTURE = "InceptionResnetV1"
#: Types in which weights may be stored.
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_OWN: dict[str, type[InceptionResnetV1] | type[EfficientNetLite0]] = {
    "InceptionResnetV1": InceptionResnetV1,
    "EfficientNetLite0": EfficientNetLite0,
}
#: Built-in models of timm only. With prefixed names such as ``hf-hub:``, timm would access the network or local files.
_TIMM = re.compile(r"timm:([a-z0-9_]+(?:\.[A-Za-z0-9_]+)?)")


class TimmNetwork(nn.Module):
    """A model of the timm library with a single logit and random weights.

    Args:
        name: name of the model in ``timm.list_models()``.
        dropout: share of the pooled features left out in training.

    Raises:
        ModelError: timm is not installed, or has no such model.
    """

    def __init__(self, name: str, dropout: float = 0.0) -> None:
        super().__init__()
        try:
            timm: Any = importlib.import_module("timm")
        except ImportError as error:
            advice = "Run: pip install 'torchfakes[timm]'"
            raise ModelError(f"the network timm:{name} needs the timm library", advice=advice) from error
        if not timm.is_model(name):
            raise ModelError(f"timm {timm.__version__} has no model {name!r}", advice="See timm.list_models().")
        self.model = timm.create_model(name, pretrained=False, num_classes=1, drop_rate=dropout)

    def forward_features(self, x: Tensor) -> Tensor:
        """N×3×S×S to the last feature map."""
        features: Tensor = self.model.forward_features(x)
        return features

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×D."""
        pooled: Tensor = self.model.forward_head(self.forward_features(x), pre_logits=True)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to logits N×1."""
        logits: Tensor = self.model(x)
        return logits


class MeanOfLogits(nn.ModuleList):
    """Ensemble: the weighted mean of several networks' logits.

    Args:
        networks: networks with the same input.
        weights: one positive weight per network; only their ratios count.
    """

    def __init__(self, networks: list[nn.Module], weights: list[float]) -> None:
        super().__init__(networks)
        total = sum(weights)
        self.weights = [weight / total for weight in weights]

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the networks' pooled features, concatenated."""
        return torch.cat([network.pooled(x) for network in self], 1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to logits N×1."""
        return torch.stack([weight * network(x) for weight, network in zip(self.weights, self, strict=True)]).sum(0)


Network = InceptionResnetV1 | EfficientNetLite0 | TimmNetwork | MeanOfLogits


def parts_of(architecture: str) -> list[str]:
    """Return the architectures of an ensemble; a list of one for a single network.

    Raises:
        ModelError: the name is unknown.
    """
    parts = architecture.split("+")
    for part in parts:
        if part not in _OWN and not _TIMM.fullmatch(part):
            known = f"Known are {', '.join(_OWN)}, timm:NAME, and several of them joined by +."
            raise ModelError(f"there is no network of the kind {part!r}", advice=known)
    if len(set(parts)) < len(parts):
        raise ModelError(f"{architecture} names a network twice")
    return parts


def build_network(
    architecture: str = ARCHITECTURE, dropout: float | None = None, weights: Mapping[str, float] | None = None
) -> Network:
    """Build a network with random weights.

    Args:
        architecture: name of an architecture, as described in this module.
        dropout: share of the pooled features left out in training; None for the architecture's default.
        weights: weights of an ensemble's logits, by architecture; None for equal ones.

    Returns:
        Module from N×3×S×S float to N×1 logits; ``pooled`` gives the features before the output layers.

    Raises:
        ModelError: the architecture is unknown or not available.
    """
    parts = parts_of(architecture)
    given: dict[str, Any] = {} if dropout is None else {"dropout": dropout}
    if len(parts) > 1:
        networks: list[nn.Module] = [build_network(part, dropout) for part in parts]
        return MeanOfLogits(networks, [1.0 if weights is None else weights[part] for part in parts])
    if match := _TIMM.fullmatch(architecture):
        return TimmNetwork(match[1], **given)
    return _OWN[architecture](**given)


def portable_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that define a network, without the step counters of batch norms."""
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def load_weights(network: nn.Module, state: Mapping[str, Tensor], path: str | None = None) -> None:
    """Load weights into a network after checking names, shapes and values.

    Args:
        network: network on any device, including the meta device.
        state: tensors from ``portable_state`` in any float type, which are converted to float32.
        path: path of the file, for error messages.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or type, not finite, or a negative variance.
    """
    expected = portable_state(network)
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
                 for what, names in (("missing", missing), ("unknown", unknown)) if names]  # fmt: skip
        kind = type(network).__name__
        raise CheckpointError(f"its tensors don't fit {kind} with one logit: {'; '.join(parts)}", path=path)
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            raise CheckpointError(f"tensor {name} has the shape {shapes}", path=path)
        if tensor.dtype not in FLOAT_TYPES:
            raise CheckpointError(f"tensor {name} has the type {tensor.dtype}, not a usual float type", path=path)
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"tensor {name} holds values that are not finite", path=path)
        if name.endswith("running_var") and (tensor < 0).any():
            raise CheckpointError(f"tensor {name} holds negative variances", path=path)
    weights = {name: tensor.float() for name, tensor in state.items()}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    network.load_state_dict(weights, assign=True)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Merge each batch norm into the preceding convolution, which gives the same results faster.

    Models of timm are left unchanged.

    Args:
        network: network in evaluation mode; it is modified in place.
    """
    for module in network.modules():
        for convolution, norm in getattr(module, "FOLDABLE", ()):
            folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
            setattr(module, convolution, folded)
            setattr(module, norm, nn.Identity())
    return network
