"""The classifier: InceptionResnetV1 with a single logit, its weights in and out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from torchfakes_cli.detector.inception_resnet import ConvNormRelu, InceptionResnetV1
from torchfakes_cli.errors import CheckpointError

ARCHITECTURE = "InceptionResnetV1"
#: What weights may be stored in.
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def build_network(dropout: float = 0.6) -> nn.Module:
    """A network with random weights.

    Args:
        dropout: share of the pooled features left out in training; 0.6 is facenet-pytorch's.

    Returns:
        A module from N×3×S×S float (S of 75 or more) to N×1 logits; a positive logit means fake.
    """
    return InceptionResnetV1(dropout=dropout)


def blank_network() -> nn.Module:
    """The same network without memory for its weights, to be filled by ``load_weights``."""
    with torch.device("meta"):
        return build_network().eval()


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
        raise CheckpointError(f"its tensors don't fit {ARCHITECTURE} with one logit: {'; '.join(parts)}", path=path)
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
