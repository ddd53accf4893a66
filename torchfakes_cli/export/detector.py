"""The detector in the form that is exported: crops in, logits and probabilities out."""

from __future__ import annotations

from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header, load_network
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.detector.network import fold_batch_norm
from torchfakes_cli.detector.registry import find_checkpoint


class WholeDetector(nn.Module):
    """The network with its preprocessing and calibration, so that apps don't have to implement them."""

    def __init__(self, network: nn.Module, header: Header) -> None:
        super().__init__()
        self.network = network
        self.header = header

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Maps N×3×S×S RGB crops from 0 to 255 to N logits and N probabilities."""
        header = self.header
        inputs = (crops - header.mean) / header.scale
        if header.picture_size != header.input_size:
            size = (header.input_size, header.input_size)
            inputs = functional.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        logits = self.network(inputs).squeeze(1)
        return logits, torch.sigmoid(header.slope * logits + header.intercept)


def load_both(model: str | PathLike[str]) -> tuple[WholeDetector, Detector]:
    """Loads a detector twice: in its exported form, and as the float32 reference on the CPU.

    Raises:
        ModelNotFoundError: the detector doesn't exist.
        ModelError: the detector can't be used.
    """
    path = find_checkpoint(model)
    (network, header), (reference, _) = load_network(path), load_network(path)
    whole = WholeDetector(fold_batch_norm(network.requires_grad_(False)), header).eval()
    return whole, Detector(reference, header, torch.device("cpu"), torch.float32)
