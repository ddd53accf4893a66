"""MTCNN's three networks made of standard layers alone, as other runtimes want them.

They give what :mod:`torchfakes_cli.faces.networks` gives, from the same weights. There the layers are written for the
speed of torch on a CPU; here nothing is left that a converter would have to trace through.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchfakes_cli.faces.networks import MEAN, SCALE, Weights, load_weights

#: The files, in the order of the stages.
NETWORKS = ("pnet", "rnet", "onet")
#: What each gives: whether a window is a face, how far the face's corners lie from its own in shares of its side, and
#: the third the landmarks, likewise: five x, then five y.
OUTPUTS = {
    "pnet": ("logit", "offsets"),
    "rnet": ("logit", "offsets"),
    "onet": ("logit", "offsets", "landmarks"),
}
#: Sides of the pooling windows after each convolution; all move by two. 0 for none.
_POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}


class CascadeNetwork(nn.Module):
    """One of the three.

    Args:
        name: of ``NETWORKS``.

    Raises:
        ModelNotFoundError: its weights are missing.
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
        """Look at pictures.

        Args:
            pictures: N×3×H×W, RGB from 0 to 255: of any even size for the first network, of 24 and 48 pixels for the
                second and the third.

        Returns:
            Logits of "face", offsets and landmarks: N×h×w and N×4×h×w of the first network, N, N×4 and N×10 of the
            others.
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
    # facenet-pytorch flattens 3×3×C as W×H×C, and this as C×H×W.
    weight = weights[f"{name}.weight"]
    weight = weight.view(len(weight), 3, 3, -1).permute(0, 3, 2, 1).flatten(1)
    return _linear({f"{name}.weight": weight, f"{name}.bias": weights[f"{name}.bias"]}, name)


def _slopes(weights: Weights, name: str) -> nn.Module:
    layer = nn.PReLU(len(weights[f"{name}.weight"]))
    layer.load_state_dict({"weight": weights[f"{name}.weight"]})
    return layer


def example_input(name: str) -> Tensor:
    """Something to trace a network with."""
    side = {"pnet": 64, "rnet": 24, "onet": 48}[name]
    return torch.zeros(2, 3, side, side)
