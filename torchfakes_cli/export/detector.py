"""The detector as it is converted: crops in, logits and probabilities out."""

from __future__ import annotations

from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header, load_checkpoint
from torchfakes_cli.detector.network import blank_network, fold_batch_norm, load_weights
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.detector.scoring import Detector
from torchfakes_cli.detector.texture import split_texture


class WholeDetector(nn.Module):
    """The network with what comes before and after it, so that nobody has to do that in the same way again."""

    def __init__(self, network: nn.Module, header: Header) -> None:
        super().__init__()
        self.network = network
        self.header = header

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """N×3×S×S RGB from 0 to 255 to N logits and N probabilities."""
        header = self.header
        inputs = (crops - header.mean) / header.scale
        if header.picture_size != header.input_size:
            size = (header.input_size, header.input_size)
            inputs = functional.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        logits = self.network(inputs).squeeze(1)
        return logits, torch.sigmoid(header.slope * logits + header.intercept)


def load_both(model: str | PathLike[str]) -> tuple[WholeDetector, Detector, bool]:
    """A detector as it is converted, as it scores here in float32, and whether it has a texture, which isn't converted.

    Of one with a texture beside its network it is the network alone, with the calibration and thresholds of that.

    Raises:
        ModelNotFoundError: there is no such detector.
        CheckpointError: it can't be used.
    """
    path = find_checkpoint(model)
    state, header = load_checkpoint(path)
    weights, texture = split_texture(state, str(path))
    if texture is not None:
        header = header.of_network()
    load_weights(network := blank_network(), weights, str(path))
    load_weights(reference := blank_network(), weights, str(path))
    whole = WholeDetector(fold_batch_norm(network.requires_grad_(False)), header).eval()
    return whole, Detector(reference, header, torch.device("cpu"), torch.float32), texture is not None
