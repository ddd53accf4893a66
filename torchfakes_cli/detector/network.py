"""Classifier networks for face crops, by name of their architecture, with one logit that is positive for fake.

An architecture is ``InceptionResnetV1``, ``EfficientNetLite0``, or ``timm:NAME`` for a model of the timm library.

Layers of InceptionResnetV1 have the names of facenet-pytorch, and those of EfficientNetLite0 the names of timm's
``tf_efficientnet_lite0``, so that their weights fit. facenet-pytorch itself isn't imported: it imports torchvision,
which takes longer than torch and would more than double the start-up time.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from torchfakes_cli.errors import CheckpointError, ModelError

#: Default architecture of training.
ARCHITECTURE = "InceptionResnetV1"
#: Types in which weights may be stored.
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Epsilon of the batch norms in the training of the published weights of both networks.
NORM_EPSILON = 1e-3
#: Channels of EfficientNetLite0's pooled features.
LITE_FEATURES = 1280
#: (expansion, channels, blocks, stride, kernel) of each stage of EfficientNetLite0, table 1 of the paper. The first and
#: the last stage of the lite networks keep their number of blocks at every size.
LITE_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
#: Built-in models of timm only. With prefixed names such as ``hf-hub:``, timm would access the network or local files.
_TIMM = re.compile(r"timm:([a-z0-9_]+(?:\.[A-Za-z0-9_]+)?)")


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

    From Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning" (2016),
    https://arxiv.org/abs/1602.07261.

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
        features = self.last_linear(self.dropout(self.pooled(x)))
        found: Tensor = self.logits(self.last_bn(features))
        return found

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×1792, before the embedding layer."""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        x = self.repeat_3(self.mixed_7a(self.repeat_2(self.mixed_6a(x))))
        pooled: Tensor = self.avgpool_1a(self.block8(x)).flatten(1)
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


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: with stride 2 the odd row and column go below and to the right.

    With an even side and stride 2, the padding is uneven. The kernel then gets a row and a column of zeros instead of
    the picture: copying pictures into larger ones took a quarter of the network's time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×K×⌈H/stride⌉×⌈W/stride⌉, for a stride of 1 or 2."""
        kernel, stride, padding = self.weight, self.stride[0], self.kernel_size[0] // 2
        uneven = [int(stride == 2 and side % 2 == 0) for side in (x.shape[-1], x.shape[-2])]
        if any(uneven) and torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            # Exported files need a constant kernel.
            x = functional.pad(x, (padding - uneven[0], padding, padding - uneven[1], padding))
            padding = 0
        elif any(uneven):
            kernel = functional.pad(kernel, (uneven[0], 0, uneven[1], 0))
        return functional.conv2d(x, kernel, self.bias, stride, padding, 1, self.groups)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv2d:
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)


class SeparableBlock(nn.Module):
    """Depthwise convolution, then a projection: the blocks of the first stage."""

    FOLDABLE = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(inputs, inputs, kernel, stride, inputs)
        self.bn1: nn.Module = nn.BatchNorm2d(inputs, NORM_EPSILON)
        self.conv_pw = _conv(inputs, outputs)
        self.bn2: nn.Module = nn.BatchNorm2d(outputs, NORM_EPSILON)

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
        self.bn1: nn.Module = nn.BatchNorm2d(wide, NORM_EPSILON)
        self.conv_dw = _conv(wide, wide, kernel, stride, wide)
        self.bn2: nn.Module = nn.BatchNorm2d(wide, NORM_EPSILON)
        self.conv_pwl = _conv(wide, outputs)
        self.bn3: nn.Module = nn.BatchNorm2d(outputs, NORM_EPSILON)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×K×H'×W'."""
        wide = functional.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        wide = functional.relu6(self.bn2(self.conv_dw(wide)), inplace=True)
        out: Tensor = self.bn3(self.conv_pwl(wide))
        return out + x if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with a single logit, a network for mobile devices.

    From Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019),
    https://arxiv.org/abs/1905.11946; "lite" has no squeeze-and-excitation, and ReLU6 in place of SiLU.

    Args:
        dropout: share of the pooled features left out in training.
    """

    FOLDABLE = (("conv_stem", "bn1"), ("conv_head", "bn2"))

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv_stem = _conv(3, 32, 3, 2)
        self.bn1: nn.Module = nn.BatchNorm2d(32, NORM_EPSILON)
        stages: list[nn.Module] = []
        channels = 32
        for expansion, outputs, count, first_stride, kernel in LITE_STAGES:
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
        self.conv_head = _conv(channels, LITE_FEATURES)
        self.bn2: nn.Module = nn.BatchNorm2d(LITE_FEATURES, NORM_EPSILON)
        self.dropout = dropout
        self.classifier = nn.Linear(LITE_FEATURES, 1)

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×1280."""
        x = functional.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        x = self.bn2(self.conv_head(self.blocks(x)))
        return functional.relu6(x, inplace=True).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to logits N×1; a positive logit means fake."""
        features = functional.dropout(self.pooled(x), self.dropout, self.training)
        logits: Tensor = self.classifier(features)
        return logits


class TimmNetwork(nn.Module):
    """A model of the timm library with a single logit and random weights.

    Args:
        name: name of the model in ``timm.list_models()``.
        dropout: share of the pooled features left out in training.

    Raises:
        ModelError: timm is not installed, or has no such model.
    """

    def __init__(self, name: str, dropout: float = 0.0) -> None:
        super().__init__()
        try:
            timm: Any = importlib.import_module("timm")
        except ImportError as error:
            advice = "Run: pip install 'torchfakes[timm]'"
            raise ModelError(f"the network timm:{name} needs the timm library", advice=advice) from error
        if not timm.is_model(name):
            raise ModelError(f"timm {timm.__version__} has no model {name!r}", advice="See timm.list_models().")
        self.model = timm.create_model(name, pretrained=False, num_classes=1, drop_rate=dropout)

    def pooled(self, x: Tensor) -> Tensor:
        """N×3×S×S to the pooled features, N×D."""
        pooled: Tensor = self.model.forward_head(self.model.forward_features(x), pre_logits=True)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to logits N×1."""
        logits: Tensor = self.model(x)
        return logits


Network = InceptionResnetV1 | EfficientNetLite0 | TimmNetwork

_OWN: dict[str, type[InceptionResnetV1] | type[EfficientNetLite0]] = {
    "InceptionResnetV1": InceptionResnetV1,
    "EfficientNetLite0": EfficientNetLite0,
}


def check_architecture(name: str) -> None:
    """Check that an architecture exists, without loading timm.

    Raises:
        ModelError: the name is unknown.
    """
    if name not in _OWN and not _TIMM.fullmatch(name):
        advice = f"Known are {', '.join(_OWN)} and timm:NAME."
        raise ModelError(f"there is no network of the kind {name!r}", advice=advice)


def build_network(architecture: str = ARCHITECTURE, dropout: float | None = None) -> Network:
    """Build a network with random weights.

    Args:
        architecture: name of an architecture, as described in this module.
        dropout: share of the pooled features left out in training; None for the architecture's default.

    Returns:
        Module from N×3×S×S float to N×1 logits; ``pooled`` gives the features before the output layers.

    Raises:
        ModelError: the architecture is unknown or not available.
    """
    check_architecture(architecture)
    given: dict[str, Any] = {} if dropout is None else {"dropout": dropout}
    if match := _TIMM.fullmatch(architecture):
        return TimmNetwork(match[1], **given)
    return _OWN[architecture](**given)


def portable_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that define a network, without the step counters of batch norms."""
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def load_weights(network: nn.Module, state: Mapping[str, Tensor], path: str | None = None) -> None:
    """Load weights into a network after checking names, shapes and values.

    Args:
        network: network on any device, including the meta device.
        state: tensors from ``portable_state`` in any float type, which are converted to float32.
        path: path of the file, for error messages.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or type, not finite, or a negative variance.
    """
    expected = portable_state(network)
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        kind = type(network).__name__
        raise CheckpointError(f"its tensors don't fit {kind} with one logit: {'; '.join(parts)}", path=path)
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
    """Merge each batch norm into the preceding convolution, which gives the same results faster.

    Models of timm are left unchanged.

    Args:
        network: network in evaluation mode; it is modified in place.
    """
    for module in network.modules():
        for convolution, norm in getattr(module, "FOLDABLE", ()):
            folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
            setattr(module, convolution, folded)
            setattr(module, norm, nn.Identity())
    return network
