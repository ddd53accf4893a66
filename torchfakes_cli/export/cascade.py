"""MTCNN's three networks built from standard layers, for export to other runtimes.

The outputs equal those of :mod:`torchfakes_cli.faces.networks` with the same weights. That module optimises its layers
for torch on a CPU; this one uses only layers that a converter maps directly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchfakes_cli.faces.networks import MEAN, SCALE, Weights, load_weights

#: Names of the networks in the order of the stages.
NETWORKS = ("pnet", "rnet", "onet")
#: Outputs of each network: the face logit, the offsets of the face's corners from the window's as shares of the
#: window's side, and for the third network the landmarks in the same unit (five x, then five y).
OUTPUTS = {
    "pnet": ("logit", "offsets"),
    "rnet": ("logit", "offsets"),
    "onet": ("logit", "offsets", "landmarks"),
}
#: Sides of the pooling windows after each convolution, at a stride of two; 0 for no pooling.
_POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}


class CascadeNetwork(nn.Module):
    """One of MTCNN's three networks.

    Args:
        name: name of the network, one of ``NETWORKS``.

    Raises:
        ModelNotFoundError: the network's weights are missing.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        weights, pools = load_weights(name), _POOLS[name]
        layers: list[nn.Module] = []
        for number, pool in enumerate(pools, 1):
            layers += [_convolution(weights, f"conv{number}"), _slopes(weights, f"prelu{number}")]
            if pool:
                layers.append(nn.MaxPool2d(pool, 2, ceil_mode=True))
        if name != "pnet":
            dense = len(pools) + 1
            layers += [nn.Flatten(), _dense(weights, f"dense{dense}"), _slopes(weights, f"prelu{dense}")]
        self.layers = nn.Sequential(*layers)
        self.convolutional = name == "pnet"
        heads = "conv4" if name == "pnet" else f"dense{len(pools) + 2}"
        build = _convolution if name == "pnet" else _linear
        self.heads = nn.ModuleList(build(weights, f"{heads}_{n}") for n in range(1, len(OUTPUTS[name]) + 1))
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Runs the network on pictures.

        Args:
            pictures: N×3×H×W, RGB from 0 to 255; any even size for the first network, 24 and 48 pixels for the second
                and the third.

        Returns:
            Face logits, offsets and landmarks: N×h×w and N×4×h×w for the first network, N, N×4 and (third network only)
            N×10 for the others.
        """
        features = self.layers((pictures - MEAN) / SCALE)
        classes, *rest = (head(features) for head in self.heads)
        # softmax([a, b])[1] = sigmoid(b − a)
        return (classes[:, 1] - classes[:, 0], *rest)


def _convolution(weights: Weights, name: str) -> nn.Module:
    weight = weights[f"{name}.weight"]
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2])
    layer.load_state_dict({"weight": weight, "bias": weights[f"{name}.bias"]})
    return layer


def _linear(weights: Weights, name: str) -> nn.Module:
    weight = weights[f"{name}.weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": weights[f"{name}.bias"]})
    return layer


def _dense(weights: Weights, name: str) -> nn.Module:
    # facenet-pytorch flattens 3×3×C as W×H×C, nn.Flatten as C×H×W.
    weight = weights[f"{name}.weight"]
    weight = weight.view(len(weight), 3, 3, -1).permute(0, 3, 2, 1).flatten(1)
    return _linear({f"{name}.weight": weight, f"{name}.bias": weights[f"{name}.bias"]}, name)


def _slopes(weights: Weights, name: str) -> nn.Module:
    layer = nn.PReLU(len(weights[f"{name}.weight"]))
    layer.load_state_dict({"weight": weights[f"{name}.weight"]})
    return layer


def example_input(name: str) -> Tensor:
    """Returns an input for tracing a network."""
    side = {"pnet": 64, "rnet": 24, "onet": 48}[name]
    return torch.zeros(2, 3, side, side)
