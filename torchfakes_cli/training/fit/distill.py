"""Distillation: a network learns to give a teacher's features and logits, beside the labels.

Matching pooled features as in Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015),
https://arxiv.org/abs/1412.6550, here of the last layer: one linear map takes the student's to the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.network import EfficientNetLite0, InceptionResnetV1, TimmNetwork
from torchfakes_cli.detector.preprocess import standardise
from torchfakes_cli.training.fit.processes import Processes

#: Share of a new batch in the running statistics of the teacher's features, once there were as many batches.
STATISTICS_RATE = 0.01
#: Variance below which a channel of the teacher counts as constant.
EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the losses.

    Attributes:
        features: mean squared error of the standardised features.
        logits: mean squared error of the logits.
        labels: loss of the labels.
    """

    features: float
    logits: float
    labels: float


#: While features are learnt …
FEATURE_PHASE = Weights(features=1.0, logits=0.0, labels=0.1)
#: … and afterwards.
LABEL_PHASE = Weights(features=0.1, logits=0.5, labels=1.0)


class Student(nn.Module):
    """A network in training, with a linear map from its pooled features to the teacher's.

    Args:
        network: to be trained.
        outputs: channels of the teacher's features.
        size: side of a picture that the network takes.
    """

    def __init__(self, network: nn.Module, outputs: int, size: int) -> None:
        super().__init__()
        self.network = network
        device = next(network.parameters()).device
        channels = _pooled(network, torch.zeros(1, 3, size, size, device=device)).shape[1]
        self.map = nn.Linear(channels, outputs, device=device)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×3×S×S to logits, N×1, and the teacher's features as predicted, N×F."""
        features: Tensor = self.network.pooled(x)  # type: ignore[operator]
        return _classify(self.network, features), self.map(features)


class Teacher:
    """A trained network and the running statistics of its features.

    Args:
        network: in evaluation mode, on the device.
        header: says how pictures become its input.
        steps: of the whole training.
        feature_share: share of the steps in the first phase.
        processes: that share a batch.

    Attributes:
        statistics: mean and variance of each feature, 2×F, and before any batch zeros.
        batches: that the statistics are of.
    """

    def __init__(
        self, network: nn.Module, header: Header, steps: int, feature_share: float, processes: Processes
    ) -> None:
        self.network, self.header = network, header
        self._feature_steps = feature_share * steps
        self._processes = processes
        device = next(network.parameters()).device
        channels = _pooled(network, torch.zeros(1, 3, header.input_size, header.input_size, device=device)).shape[1]
        self.statistics = torch.zeros(2, channels, device=device)
        self.batches = torch.zeros((), dtype=torch.int64)

    @property
    def channels(self) -> int:
        """Of the pooled features."""
        return self.statistics.shape[1]

    def weights(self, step: int) -> Weights:
        """Weights of the losses at a step, from 0."""
        return FEATURE_PHASE if step < self._feature_steps else LABEL_PHASE

    @torch.no_grad()
    def targets(self, pictures: Tensor, dtype: torch.dtype, at_once: int) -> tuple[Tensor, Tensor]:
        """Standardised features and logits of a batch, which the statistics take in.

        Args:
            pictures: N×S×S×3 uint8, on the device.
            dtype: to compute in.
            at_once: pictures that go through the network together.

        Returns:
            Features N×F and logits N×1, float32.
        """
        found = []
        for part in torch.split(pictures, at_once):
            inputs = network_input(part, self.header, self.header.input_size)
            with torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32):
                features: Tensor = self.network.pooled(inputs)  # type: ignore[operator]
                found.append((features.float(), _classify(self.network, features).float()))
        features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        self._observe(features)
        mean, variance = self.statistics
        return (features - mean) / (variance + EPSILON).sqrt(), logits

    def _observe(self, features: Tensor) -> None:
        moments = self._processes.total(torch.stack([features.mean(0), features.square().mean(0)]))
        mean, square = moments / self._processes.count
        self.batches += 1
        rate = max(STATISTICS_RATE, 1 / int(self.batches))
        self.statistics.lerp_(torch.stack([mean, (square - mean.square()).clamp_min(0)]), rate)

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        return {"statistics": self.statistics, "batches": self.batches}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what ``state`` gave.

        Raises:
            KeyError: something is missing.
        """
        self.statistics.copy_(state["statistics"])
        self.batches.copy_(state["batches"])


def distillation_loss(
    labels_loss: Tensor, logits: Tensor, mapped: Tensor, targets: tuple[Tensor, Tensor], weights: Weights
) -> Tensor:
    """The weighted sum of the losses.

    Args:
        labels_loss: of the labels, a scalar.
        logits: of the student, N×1.
        mapped: its features as the map makes them the teacher's, N×F.
        targets: features and logits of the teacher.
        weights: of the losses.
    """
    features = functional.mse_loss(mapped, targets[0])
    return (
        weights.labels * labels_loss
        + weights.features * features
        + weights.logits * functional.mse_loss(logits, targets[1])
    )


def network_input(pictures: Tensor, header: Header, size: int) -> Tensor:
    """Pictures of any size as a network takes them.

    Args:
        pictures: N×S×S×3 uint8.
        header: of the network.
        size: side of its input in pixels.

    Returns:
        N×3×size×size float32; shrunk with an antialiasing filter, enlarged bilinearly.
    """
    inputs = standardise(pictures, header.mean, header.scale)
    for side in (header.crop_size if header.crop_size and size == header.input_size else size, size):
        if side != inputs.shape[-1]:
            shrinks = side < inputs.shape[-1]
            inputs = functional.interpolate(
                inputs, size=(side, side), mode="bilinear", align_corners=False, antialias=shrinks
            )
    return inputs.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _pooled(network: nn.Module, inputs: Tensor) -> Tensor:
    """The pooled features in evaluation mode; the network stays as it is."""
    training = network.training
    features: Tensor = network.eval().pooled(inputs)  # type: ignore[operator]
    network.train(training)
    return features


def _classify(network: nn.Module, features: Tensor) -> Tensor:
    """Logits from pooled features, so that one pass gives both."""
    if isinstance(network, InceptionResnetV1):
        logits = network.logits(network.last_bn(network.last_linear(network.dropout(features))))
    elif isinstance(network, EfficientNetLite0):
        logits = network.classifier(functional.dropout(features, network.dropout, network.training))
    else:
        assert isinstance(network, TimmNetwork)
        # What timm calls pooled has had its dropout.
        logits = network.model.get_classifier()(features)
    found: Tensor = logits
    return found
