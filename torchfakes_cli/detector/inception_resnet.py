"""InceptionResnetV1 in the form of facenet-pytorch.

From Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning" (2016),
https://arxiv.org/abs/1602.07261. Layers have the names of that package, so that its weights fit. The package itself
isn't imported: it imports torchvision, which takes longer than torch and would more than double the start-up time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Epsilon of the batch norms in the training of the published weights.
NORM_EPSILON = 0.001


class ConvNormRelu(nn.Module):
    """A convolution without bias, batch norm and ReLU.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel: side of the kernel, or (height, width).
        stride: stride of the convolution.
        padding: padding of all sides, or (vertical, horizontal).
    """

    FOLDABLE = (("conv", "bn"),)

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(channels_out, eps=NORM_EPSILON)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """N×Cin×H×W to N×Cout×H'×W'."""
        activated: Tensor = self.relu(self.bn(self.conv(x)))
        return activated


class Branches(nn.Module):
    """Parallel branches over one input, their outputs concatenated by channels.

    Args:
        branches: modules that give the same height and width; they are named ``branch0``, ``branch1`` and so on.
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self._names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self._names, branches, strict=True):
            self.add_module(name, branch)

    def joined(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        return torch.cat([self.get_submodule(name)(x) for name in self._names], 1)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        return self.joined(x)


class ResidualBlock(Branches):
    """Adds the scaled output of parallel branches to the input.

    Args:
        channels: channels of input and output.
        branches: branches, as ``Branches`` takes them.
        found: channels of the concatenated branches.
        scale: factor of the branches' output before it is added.
        activated: apply ReLU to the sum.
    """

    def __init__(
        self, channels: int, branches: Sequence[nn.Module], found: int, scale: float, *, activated: bool = True
    ) -> None:
        super().__init__(branches)
        self.scale = scale
        self.activated = activated
        self.conv2d = nn.Conv2d(found, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to the same shape."""
        added = torch.add(x, self.conv2d(self.joined(x)), alpha=self.scale)
        return added.relu_() if self.activated else added


class InceptionResnetV1(nn.Module):
    """InceptionResnetV1 with a linear output layer.

    Args:
        outputs: number of outputs.
        dropout: share of the pooled features left out in training.
    """

    def __init__(self, outputs: int = 1, dropout: float = 0.6) -> None:
        super().__init__()
        self.conv2d_1a = ConvNormRelu(3, 32, 3, stride=2)
        self.conv2d_2a = ConvNormRelu(32, 32, 3)
        self.conv2d_2b = ConvNormRelu(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = ConvNormRelu(64, 80)
        self.conv2d_4a = ConvNormRelu(80, 192, 3)
        self.conv2d_4b = ConvNormRelu(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*[_block35() for _ in range(5)])
        self.mixed_6a = Branches(
            [
                ConvNormRelu(256, 384, 3, stride=2),
                _chain(ConvNormRelu(256, 192), ConvNormRelu(192, 192, 3, padding=1), ConvNormRelu(192, 256, 3, 2)),
                nn.MaxPool2d(3, 2),
            ]
        )
        self.repeat_2 = nn.Sequential(*[_block17() for _ in range(10)])
        self.mixed_7a = Branches(
            [
                _chain(ConvNormRelu(896, 256), ConvNormRelu(256, 384, 3, stride=2)),
                _chain(ConvNormRelu(896, 256), ConvNormRelu(256, 256, 3, stride=2)),
                _chain(ConvNormRelu(896, 256), ConvNormRelu(256, 256, 3, padding=1), ConvNormRelu(256, 256, 3, 2)),
                nn.MaxPool2d(3, 2),
            ]
        )
        self.repeat_3 = nn.Sequential(*[_block8(scale=0.2) for _ in range(5)])
        self.block8 = _block8(scale=1.0, activated=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=NORM_EPSILON)
        self.logits = nn.Linear(512, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S float, S of 75 or more, to N×outputs."""
        return self.judge(self.map_features(x))

    def map_features(self, x: Tensor) -> Tensor:
        """N×3×S×S to a feature map of N×896×H×W, 8×8 for S of 160."""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        found: Tensor = self.repeat_2(self.mixed_6a(x))
        return found

    def judge(self, x: Tensor) -> Tensor:
        """Feature map to N×outputs."""
        features = self.last_linear(self.dropout(self._pool(x)))
        found: Tensor = self.logits(self.last_bn(features))
        return found

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×1792, before the embedding layer."""
        return self._pool(self.map_features(x))

    def _pool(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.avgpool_1a(self.block8(self.repeat_3(self.mixed_7a(x)))).flatten(1)
        return pooled


def _chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def _block35() -> ResidualBlock:
    branches: list[nn.Module] = [
        ConvNormRelu(256, 32),
        _chain(ConvNormRelu(256, 32), ConvNormRelu(32, 32, 3, padding=1)),
        _chain(ConvNormRelu(256, 32), ConvNormRelu(32, 32, 3, padding=1), ConvNormRelu(32, 32, 3, padding=1)),
    ]
    return ResidualBlock(256, branches, 96, 0.17)


def _block17() -> ResidualBlock:
    wide, high = ConvNormRelu(128, 128, (1, 7), padding=(0, 3)), ConvNormRelu(128, 128, (7, 1), padding=(3, 0))
    return ResidualBlock(896, [ConvNormRelu(896, 128), _chain(ConvNormRelu(896, 128), wide, high)], 256, 0.1)


def _block8(scale: float, *, activated: bool = True) -> ResidualBlock:
    wide, high = ConvNormRelu(192, 192, (1, 3), padding=(0, 1)), ConvNormRelu(192, 192, (3, 1), padding=(1, 0))
    branches: list[nn.Module] = [ConvNormRelu(1792, 192), _chain(ConvNormRelu(1792, 192), wide, high)]
    return ResidualBlock(1792, branches, 384, scale, activated=activated)
