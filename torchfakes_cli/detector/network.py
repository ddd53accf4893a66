"""The classifier: a backbone with a single logit, its weights in and out."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from torchfakes_cli.detector.efficientnet_lite import EfficientNetLite0
from torchfakes_cli.detector.inception_resnet import ConvNormRelu, InceptionResnetV1
from torchfakes_cli.errors import CheckpointError, ModelError

ARCHITECTURE = "InceptionResnetV1"
_OWN: dict[str, type[InceptionResnetV1] | type[EfficientNetLite0]] = {
    "InceptionResnetV1": InceptionResnetV1,
    "EfficientNetLite0": EfficientNetLite0,
}
#: A model of timm's own. Names with a prefix, such as ``hf-hub:``, would make timm open the network or local files.
_TIMM = re.compile(r"timm:([a-z0-9_]+(?:\.[A-Za-z0-9_]+)?)")
#: What weights may be stored in.
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class TimmNetwork(nn.Module):
    """A model of the timm library with a single logit and random weights.

    Args:
        name: as ``timm.list_models()`` gives it.
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

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×D."""
        pooled: Tensor = self.model.forward_head(self.model.forward_features(x), pre_logits=True)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to logits N×1."""
        logits: Tensor = self.model(x)
        return logits


def check_architecture(architecture: str) -> None:
    """Make sure that a name may be an architecture's; timm's own list is not consulted.

    Raises:
        ModelError: there is no such architecture.
    """
    if architecture not in _OWN and not _TIMM.fullmatch(architecture):
        known = f"Known are {', '.join(_OWN)} and timm:NAME."
        raise ModelError(f"there is no network of the kind {architecture!r}", advice=known)


def build_network(architecture: str = ARCHITECTURE, dropout: float | None = None) -> nn.Module:
    """Build a network with random weights.

    Args:
        architecture: ``InceptionResnetV1``, ``EfficientNetLite0``, or ``timm:NAME`` for a model of the timm library.
        dropout: share of the pooled features left out in training; None for the architecture's own.

    Returns:
        A module from N×3×S×S float to N×1 logits, positive for fake; ``pooled`` gives the features before the output
        layers.

    Raises:
        ModelError: there is no such architecture here.
    """
    check_architecture(architecture)
    given: dict[str, Any] = {} if dropout is None else {"dropout": dropout}
    if match := _TIMM.fullmatch(architecture):
        return TimmNetwork(match[1], **given)
    return _OWN[architecture](**given)


def blank_network(architecture: str = ARCHITECTURE) -> nn.Module:
    """The same network without memory for its weights, to be filled by ``load_weights``."""
    # Networks of timm may compute buffers that no checkpoint holds, which takes memory.
    with torch.device("cpu" if architecture not in _OWN else "meta"):
        return build_network(architecture).eval()


def portable_state(network: nn.Module) -> dict[str, Tensor]:
    """The tensors that make the network what it is, without batch-norm's step counters."""
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def load_weights(network: nn.Module, state: Mapping[str, Tensor], path: str | None = None) -> None:
    """Put weights into a network after checking names, shapes and values.

    Args:
        network: on any device, the meta device included.
        state: as ``portable_state`` gave it, in any float type; kept as float32.
        path: of the file, for the error.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or type, not finite, or a negative variance.
    """
    expected = portable_state(network)
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
                 for what, names in (("missing", missing), ("unknown", unknown)) if names]  # fmt: skip
        raise CheckpointError(
            f"its tensors don't fit {type(network).__name__} with one logit: {'; '.join(parts)}", path=path
        )
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
    """Merge each batch norm into the convolution before it: the same function in evaluation, with less to do.

    Args:
        network: in evaluation mode; changed in place.
    """
    for module in network.modules():
        if isinstance(module, ConvNormRelu):
            assert isinstance(module.bn, nn.BatchNorm2d), "folded once"
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    return network
