"""Distillation: a network learns to give a teacher's features and logits, beside the labels.

Matching pooled features as in Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015),
https://arxiv.org/abs/1412.6550, here of the last layer: a linear map takes the student's to the teacher's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.network import EfficientNetLite0, InceptionResnetV1, TimmNetwork
from torchfakes_cli.detector.preprocess import standardise
from torchfakes_cli.training.fit.processes import Processes

#: Share of a new batch in the running statistics of the teacher's features, after the first batches.
STATISTICS_RATE = 0.01


class Weights(NamedTuple):
    """Weights of the losses: squared errors of standardized features and of logits, and the loss of the labels."""

    features: float
    logits: float
    labels: float


#: While features are learned …
FEATURE_PHASE = Weights(features=1.0, logits=0.0, labels=0.1)
#: … and afterwards.
LABEL_PHASE = Weights(features=0.1, logits=0.5, labels=1.0)


class Student(nn.Module):
    """A network in training, with a linear map from its pooled features to the teacher's."""

    def __init__(self, network: nn.Module, outputs: int, size: int) -> None:
        super().__init__()
        self.network = network
        self.map = nn.Linear(_channels(network, size), outputs, device=next(network.parameters()).device)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×3×S×S to logits, N×1, and the teacher's features as predicted, N×F."""
        features: Tensor = self.network.pooled(x)  # type: ignore[operator]
        return _classify(self.network, features), self.map(features)


class Teacher:
    """A trained network in evaluation mode, and the running statistics that standardize its features.

    ``feature_share`` is the share of the updates (``steps``) in the first phase.
    """

    def __init__(
        self, network: nn.Module, header: Header, steps: int, feature_share: float, processes: Processes
    ) -> None:
        self.network, self.header = network, header
        self._feature_steps = feature_share * steps
        self._processes = processes
        self.channels = _channels(network, header.input_size)
        self.norm = nn.BatchNorm1d(self.channels, affine=False, device=next(network.parameters()).device)

    def weights(self, step: int) -> Weights:
        """Weights of the losses at a step, from 0."""
        return FEATURE_PHASE if step < self._feature_steps else LABEL_PHASE

    @torch.no_grad()
    def targets(self, pictures: Tensor, dtype: torch.dtype, at_once: int) -> tuple[Tensor, Tensor]:
        """Standardized features N×F and logits N×1 (float32) of a batch, which the running statistics take in.

        The pictures, N×S×S×3 uint8 on the device, go through the network ``at_once`` at a time.
        """
        found = []
        for part in torch.split(pictures, at_once):
            inputs = network_input(part, self.header, self.header.input_size)
            with torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32):
                features: Tensor = self.network.pooled(inputs)  # type: ignore[operator]
                found.append((features.float(), _classify(self.network, features).float()))
        features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        assert self.norm.num_batches_tracked is not None
        self.norm.momentum = max(STATISTICS_RATE, 1 / (int(self.norm.num_batches_tracked) + 1))
        self.norm.train()(features)
        self._processes.average_buffers(self.norm)
        return self.norm.eval()(features), logits


def distillation_loss(
    labels_loss: Tensor, logits: Tensor, mapped: Tensor, targets: tuple[Tensor, Tensor], weights: Weights
) -> Tensor:
    """The weighted sum of the loss of the labels and the errors of the mapped features and of the logits."""
    features, answers = functional.mse_loss(mapped, targets[0]), functional.mse_loss(logits, targets[1])
    return weights.labels * labels_loss + weights.features * features + weights.logits * answers


def network_input(pictures: Tensor, header: Header, size: int) -> Tensor:
    """Convert pictures, N×S×S×3 uint8, to a network's input, N×3×size×size float32.

    They are reduced with an antialiasing filter, and enlarged bilinearly.
    """
    inputs = standardise(pictures, header.mean, header.scale)
    for side in (header.crop_size if header.crop_size and size == header.input_size else size, size):
        if side != inputs.shape[-1]:
            inputs = functional.interpolate(
                inputs, size=(side, side), mode="bilinear", align_corners=False, antialias=side < inputs.shape[-1]
            )
    return inputs.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _channels(network: nn.Module, size: int) -> int:
    """Number of pooled features of a network, which stays as it is."""
    training = network.training
    zeros = torch.zeros(1, 3, size, size, device=next(network.parameters()).device)
    pooled: Tensor = network.eval().pooled(zeros)  # type: ignore[operator]
    network.train(training)
    return pooled.shape[1]


def _classify(network: nn.Module, features: Tensor) -> Tensor:
    """Compute logits from pooled features, so that one pass gives both."""
    if isinstance(network, InceptionResnetV1):
        logits = network.logits(network.last_bn(network.last_linear(network.dropout(features))))
    elif isinstance(network, EfficientNetLite0):
        logits = network.classifier(functional.dropout(features, network.dropout, network.training))
    else:
        assert isinstance(network, TimmNetwork)
        # timm has applied its dropout already.
        logits = network.model.get_classifier()(features)
    found: Tensor = logits
    return found
