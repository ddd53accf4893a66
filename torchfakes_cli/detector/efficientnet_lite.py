"""EfficientNet-Lite0 with one logit, in plain PyTorch.

The network of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019),
https://arxiv.org/abs/1905.11946, in the "lite" form for mobile devices: no squeeze-and-excitation, ReLU6 in place of
SiLU. Module names and the padding follow timm's ``tf_efficientnet_lite0``, so that weights move between the two.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

#: Channels of the pooled features.
FEATURES = 1280
#: (expansion, channels, blocks, stride, kernel) of each stage, table 1 of the paper. The first and the last stage of
#: the lite networks keep their number of blocks at every size.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
#: Epsilon of the batch norms in the training of the published weights.
EPSILON = 1e-3


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: with stride 2 the odd row and column go below and to the right."""

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×K×⌈H/stride⌉×⌈W/stride⌉."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return functional.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [missing // 2, missing - missing // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, stride, 0, 1, self.groups)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv2d:
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)


class SeparableBlock(nn.Module):
    """Depthwise convolution, then a projection: the blocks of the first stage."""

    FOLDABLE = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(inputs, inputs, kernel, stride, inputs)
        self.bn1: nn.Module = nn.BatchNorm2d(inputs, EPSILON)
        self.conv_pw = _conv(inputs, outputs)
        self.bn2: nn.Module = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×K×H'×W'."""
        x = functional.relu6(self.bn1(self.conv_dw(x)), inplace=True)
        out: Tensor = self.bn2(self.conv_pw(x))
        return out


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection, with a shortcut if the shape is unchanged."""

    FOLDABLE = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.conv_pw = _conv(inputs, wide)
        self.bn1: nn.Module = nn.BatchNorm2d(wide, EPSILON)
        self.conv_dw = _conv(wide, wide, kernel, stride, wide)
        self.bn2: nn.Module = nn.BatchNorm2d(wide, EPSILON)
        self.conv_pwl = _conv(wide, outputs)
        self.bn3: nn.Module = nn.BatchNorm2d(outputs, EPSILON)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×K×H'×W'."""
        wide = functional.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        wide = functional.relu6(self.bn2(self.conv_dw(wide)), inplace=True)
        out: Tensor = self.bn3(self.conv_pwl(wide))
        return out + x if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with a single logit.

    Args:
        dropout: share of the pooled features left out in training.
    """

    FOLDABLE = (("conv_stem", "bn1"), ("conv_head", "bn2"))

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv_stem = _conv(3, 32, 3, 2)
        self.bn1: nn.Module = nn.BatchNorm2d(32, EPSILON)
        stages: list[nn.Module] = []
        channels = 32
        for expansion, outputs, count, first_stride, kernel in STAGES:
            blocks: list[nn.Module] = []
            for number in range(count):
                stride = first_stride if number == 0 else 1
                blocks.append(
                    SeparableBlock(channels, outputs, kernel, stride)
                    if expansion == 1
                    else InvertedResidual(channels, outputs, expansion, kernel, stride)
                )
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _conv(channels, FEATURES)
        self.bn2: nn.Module = nn.BatchNorm2d(FEATURES, EPSILON)
        self.dropout = dropout
        self.classifier = nn.Linear(FEATURES, 1)

    def forward_features(self, x: Tensor) -> Tensor:
        """N×3×S×S to the last feature map, N×1280×⌈S/32⌉×⌈S/32⌉."""
        x = functional.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        x = self.blocks(x)
        return functional.relu6(self.bn2(self.conv_head(x)), inplace=True)

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×1280."""
        return self.forward_features(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to logits N×1; a positive logit means fake."""
        features = functional.dropout(self.pooled(x), self.dropout, self.training)
        logits: Tensor = self.classifier(features)
        return logits


def from_original_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a conversion of the original release (``_conv_stem``, ``_blocks.0._expand_conv``, …).

    Args:
        state: tensors of the file, in the network's order.

    Returns:
        The same tensors under this module's names, without the classifier.

    Raises:
        ValueError: the number of tensors differs.
    """
    wanted = [name for name in EfficientNetLite0().state_dict() if not name.startswith("classifier")]
    given = [name for name in state if not name.startswith("_fc.")]
    if len(given) != len(wanted):
        raise ValueError(f"expected {len(wanted)} tensors, found {len(given)}")
    return {new: state[old] for new, old in zip(wanted, given, strict=True)}
