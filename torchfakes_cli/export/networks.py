"""The exported networks: the detector, and MTCNN's three networks, built from layers that converters map directly."""

from __future__ import annotations

from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header, load_network
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.detector.network import fold_batch_norm
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.faces.networks import MEAN, SCALE, load_weights

#: Names of the cascade's networks in the order of the stages.
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


class WholeDetector(nn.Module):
    """The network with its preprocessing and calibration, so that apps don't have to implement them."""

    def __init__(self, network: nn.Module, header: Header) -> None:
        super().__init__()
        self.network = network
        self.header = header

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map N×3×S×S RGB crops from 0 to 255 to N logits and N probabilities."""
        header = self.header
        inputs = (crops - header.mean) / header.scale
        if header.picture_size != header.input_size:
            size = (header.input_size, header.input_size)
            inputs = functional.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        logits = self.network(inputs).squeeze(1)
        return logits, torch.sigmoid(header.slope * logits + header.intercept)


def load_both(model: str | PathLike[str]) -> tuple[WholeDetector, Detector]:
    """Load a detector twice: in its exported form, and as the float32 reference on the CPU.

    Raises:
        ModelNotFoundError: the detector doesn't exist.
        ModelError: the detector can't be used.
    """
    path = find_checkpoint(model)
    (network, header), (reference, _) = load_network(path), load_network(path)
    whole = WholeDetector(fold_batch_norm(network.requires_grad_(False)), header).eval()
    return whole, Detector(reference, header, torch.device("cpu"), torch.float32)


class CascadeNetwork(nn.Module):
    """One of MTCNN's three networks, with the outputs of :mod:`torchfakes_cli.faces.networks`.

    Args:
        name: name of the network, one of ``NETWORKS``.

    Raises:
        ModelNotFoundError: the network's weights are missing.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        weights, self.pools = load_weights(name), _POOLS[name]
        names = [key.removesuffix(".weight") for key in weights if key.endswith(".weight")]
        self.layers = nn.ModuleDict({layer: _layer(weights[f"{layer}.weight"]) for layer in names})
        self.layers.load_state_dict(weights)
        self.heads = [layer for layer in names if "_" in layer]
        self.dense = next((layer for layer in names if layer.startswith("dense")), "")
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Run the network on pictures.

        Args:
            pictures: N×3×H×W, RGB from 0 to 255; any even size for the first network, 24 and 48 pixels for the second
                and the third.

        Returns:
            Face logits, offsets and landmarks: N×h×w and N×4×h×w for the first network, N, N×4 and (third network only)
            N×10 for the others.
        """
        layers = self.layers
        features = (pictures - MEAN) / SCALE
        for number, pool in enumerate(self.pools, 1):
            features = layers[f"prelu{number}"](layers[f"conv{number}"](features))
            if pool:
                features = functional.max_pool2d(features, pool, 2, ceil_mode=True)
        if self.dense:
            # facenet-pytorch flattens W×H×C.
            features = layers[self.dense](features.permute(0, 3, 2, 1).flatten(1))
            features = layers[self.dense.replace("dense", "prelu")](features)
        classes, *rest = (layers[head](features) for head in self.heads)
        # softmax([a, b])[1] = sigmoid(b − a)
        return (classes[:, 1] - classes[:, 0], *rest)


def _layer(weight: Tensor) -> nn.Module:
    """Build the layer of a weight: slopes of a PReLU, or the matrix of a dense or convolutional layer."""
    if weight.dim() == 1:
        return nn.PReLU(len(weight))
    if weight.dim() == 2:
        return nn.Linear(weight.shape[1], weight.shape[0])
    return nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2])
