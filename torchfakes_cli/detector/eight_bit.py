"""The network in 8 bits, for processors that multiply those faster than anything else.

Weights become whole numbers from -127 to 127, with a scale for each output channel, and activations whole numbers from
0 to 255, with one scale a layer: its highest value on validation crops, as it stands in the checkpoint (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
https://arxiv.org/abs/1712.05877). After ReLU nothing is below 0, so that no zero point is needed. The first
convolution and all after the last one stay float32: they take no time.

oneDNN does the work, through the operators that ``torch.compile`` uses. The same arithmetic in float32 (``real=False``)
tells on any machine by how much 8 bits change a network's logits.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.inception_resnet import Branches, ConvNormRelu, InceptionResnetV1, ResidualBlock
from torchfakes_cli.detector.network import fold_batch_norm

logger = logging.getLogger(__name__)

#: Instructions that multiply 8-bit numbers and add up in 32 bits; without them sums of pairs may overflow.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni")
#: The highest activation.
TOP = 255
#: The highest weight.
WEIGHT_TOP = 127
#: oneDNN arranges weights for so many crops at once; other numbers are as fast but for very small ones.
USUAL_BATCH = 32
#: The trunk's layers between the first convolution and the average, in order.
_TRUNK = (
    "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b", "repeat_1", "mixed_6a", "repeat_2",
    "mixed_7a", "repeat_3", "block8",
)  # fmt: skip
_FIRST = "conv2d_1a"


@torch.inference_mode()
def highest_activations(network: nn.Module, inputs: Iterable[Tensor]) -> dict[str, float]:
    """The highest output of each layer that has a scale of its own in 8 bits.

    Args:
        network: in evaluation mode, float32; stays as it is.
        inputs: N×3×S×S each, on the network's device.

    Returns:
        By the layer's name; 0 for one that never gave anything.
    """
    highest: dict[str, float] = {}
    own = fold_batch_norm(copy.deepcopy(network))

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            highest[name] = max(highest.get(name, 0.0), float(output.max()))

        return hook

    for name, module in own.named_modules():
        if isinstance(module, (ConvNormRelu, ResidualBlock, nn.MaxPool2d)):
            module.register_forward_hook(note(name))
    for batch in inputs:
        own(batch)
    return highest


@cache
def eight_bit_instructions() -> str:
    """The processor's instructions for 8-bit numbers that oneDNN uses; empty where it has none, or lacks operators."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):  # type: ignore[no-untyped-call]
        return ""
    capabilities = torch.cpu.get_capabilities()
    found = next((name for name in INSTRUCTIONS if capabilities.get(name)), "")
    return found if found and _operators_work() else ""


def _operators_work() -> bool:
    """Whether the operators are there and do what they should: they are no part of PyTorch's public interface."""
    activations = (torch.arange(2 * 32 * 9) % 256).reshape(2, 32, 3, 3).to(torch.uint8)
    activations = activations.contiguous(memory_format=torch.channels_last)
    values = activations.float()
    convolution = nn.Conv2d(32, 32, 1, device="meta")  # draws no random numbers
    convolution.weight = nn.Parameter(torch.linspace(-0.1, 0.1, 1024).view(32, 32, 1, 1), requires_grad=False)
    convolution.bias = nn.Parameter(torch.full((32,), 0.5), requires_grad=False)
    pairs = []
    try:
        with torch.inference_mode():
            single, simulated = (_Activated(convolution, 0.01, 0.02, 3, real=real) for real in (True, False))
            pairs.append((single(activations), simulated(values)))
            for scale in (0.03, None):
                added, simply_added = (_Added(convolution, 0.01, 0.02, scale, 3, real=real) for real in (True, False))
                pairs.append((added(activations.clone(), activations), simply_added(values, values)))
    except (AttributeError, RuntimeError, TypeError):  # gone, not for this processor, or asking for something else
        logger.debug("8-bit convolutions can't be used", exc_info=True)
        return False
    return all(bool(((real.float() - wanted).abs() <= 1).all()) for real, wanted in pairs)


class EightBitNetwork(nn.Module):
    """A network that computes in 8 bits.

    Args:
        network: on the CPU, in evaluation mode, batch norm folded, float32; stays as it is.
        highest: from ``highest_activations``.
        size: side of the input in pixels.
        real: in 8 bits; else in float32, with the same rounding.

    Raises:
        KeyError: a layer's highest activation is missing.
    """

    def __init__(self, network: InceptionResnetV1, highest: Mapping[str, float], size: int, *, real: bool) -> None:
        super().__init__()
        self._real = real
        first = network.get_submodule(_FIRST)
        assert isinstance(first, ConvNormRelu)
        assert first.conv.bias is not None
        scale = _scale(highest, _FIRST)
        self._weight, self._bias = first.conv.weight / scale, first.conv.bias / scale + 0.5  # half, for it is cut off
        self._stride = first.conv.stride
        side = (size - first.conv.kernel_size[0]) // self._stride[0] + 1
        trunk = []
        for name in _TRUNK:
            layer = _Built(network.get_submodule(name), name, scale, side, highest, real=real)
            scale, side = layer.scale, layer.side
            trunk.append(layer.module)
        self._trunk = nn.Sequential(*trunk)
        self._head = nn.Sequential(network.last_linear, network.last_bn, network.logits)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S float32, channels last in memory, to N×outputs."""
        values = functional.conv2d(x, self._weight, self._bias, self._stride).clamp_(0, TOP)
        values = values.to(torch.uint8) if self._real else values.floor_()
        found: Tensor = self._head(self._trunk(values).mean((2, 3)))
        return found


class _Built:
    """A layer in 8 bits, the scale of what it gives, and the side of its map in pixels."""

    def __init__(
        self, layer: nn.Module, name: str, scale: float, side: int, highest: Mapping[str, float], *, real: bool,
        wanted: float | None = None,
    ) -> None:  # fmt: skip
        def build(part: nn.Module, part_name: str, of: float, at: int, result: float | None = None) -> _Built:
            return _Built(part, f"{name}.{part_name}", of, at, highest, real=real, wanted=result)

        self.scale, self.side, self.module = scale, side, layer
        if isinstance(layer, ConvNormRelu):
            self.scale = wanted or _scale(highest, name)
            self.module = _Activated(layer.conv, scale, self.scale, side, real=real)
            self.side = _side_after(layer.conv, side)
        elif isinstance(layer, nn.MaxPool2d):
            self.scale = wanted or scale
            self.side = (side - 1) // 2
            self.module = _Pooled(scale / self.scale)
        elif isinstance(layer, nn.Sequential):
            parts = []
            for place, (part_name, part) in enumerate(layer.named_children(), 1):
                built = build(part, part_name, self.scale, self.side, wanted if place == len(layer) else None)
                self.scale, self.side = built.scale, built.side
                parts.append(built.module)
            self.module = nn.Sequential(*parts)
        elif isinstance(layer, Branches):
            branches = {part: child for part, child in layer.named_children() if part.startswith("branch")}
            joined = max(_scale(highest, _last(child, f"{name}.{part}")) for part, child in branches.items())
            built_branches = [build(child, part, scale, side, joined) for part, child in branches.items()]
            self.scale, self.side = joined, built_branches[0].side
            self.module = _Joined([built.module for built in built_branches])
            if isinstance(layer, ResidualBlock):
                self.scale = _scale(highest, name) if layer.activated else 1.0
                added = _Added(layer.conv2d, joined, scale, self.scale if layer.activated else None, side,
                               share=layer.scale, real=real)  # fmt: skip
                self.module = _Residual(self.module, added)
        else:
            raise TypeError(f"no 8-bit form of {type(layer).__name__}")


def _scale(highest: Mapping[str, float], name: str) -> float:
    """What one step of a layer's output is worth."""
    return max(highest[name], 1e-6) / TOP


def _last(layer: nn.Module, name: str) -> str:
    """The name of the layer that gives a branch's output."""
    if isinstance(layer, nn.Sequential):
        part_name, part = list(layer.named_children())[-1]
        return _last(part, f"{name}.{part_name}")
    return name


def _side_after(convolution: nn.Conv2d, side: int) -> int:
    """Of the output map; oneDNN is only told it to arrange weights, so that one side stands for both."""
    assert not isinstance(convolution.padding, str)
    return (side + 2 * convolution.padding[0] - convolution.kernel_size[0]) // convolution.stride[0] + 1


class _Weights(nn.Module):
    """A convolution's weights in 8 bits.

    Args:
        convolution: with bias.
        scale_in: of its input.
        side: of its input in pixels.
        share: of its result that is wanted.
        real: arranged for oneDNN; else in float32.
    """

    def __init__(self, convolution: nn.Conv2d, scale_in: float, side: int, share: float, *, real: bool) -> None:
        super().__init__()
        assert convolution.bias is not None
        assert not isinstance(convolution.padding, str)
        self.bias = convolution.bias * share
        self.stride, self.padding = list(convolution.stride), list(convolution.padding)
        weight = convolution.weight * share
        self.scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / WEIGHT_TOP
        whole = (weight / self.scales[:, None, None, None]).round()
        if real:
            self.zeros = torch.zeros(len(weight), dtype=torch.int8)
            shape = [USUAL_BATCH, weight.shape[1], side, side]
            self.packed: Tensor = torch.ops.onednn.qconv_prepack(
                whole.to(torch.int8), self.scales, scale_in, 0, self.stride, self.padding, [1, 1], 1, shape
            )
        else:
            self.packed = whole * self.scales[:, None, None, None]

    def convolved(self, x: Tensor) -> Tensor:
        """In float32."""
        return functional.conv2d(x, self.packed, self.bias, self.stride, self.padding)


class _Activated(nn.Module):
    """A convolution with bias, and ReLU."""

    def __init__(self, convolution: nn.Conv2d, scale_in: float, scale_out: float, side: int, *, real: bool) -> None:
        super().__init__()
        self._weights = _Weights(convolution, scale_in, side, 1.0, real=real)
        self._scale_in, self._scale_out, self._real = scale_in, scale_out, real

    def forward(self, x: Tensor) -> Tensor:
        """N×Cin×H×W to N×Cout×H'×W', in steps of the scales."""
        weights = self._weights
        if not self._real:
            return _rounded(weights.convolved(x * self._scale_in) / self._scale_out)
        found: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, self._scale_in, 0, weights.packed, weights.scales, weights.zeros, weights.bias, weights.stride,
            weights.padding, [1, 1], 1, self._scale_out, 0, torch.uint8, "relu", [None], "",
        )  # fmt: skip
        return found


class _Added(nn.Module):
    """A 1×1 convolution that is added to something else, and ReLU; or, with no output scale, float32 without ReLU."""

    def __init__(
        self, convolution: nn.Conv2d, scale_in: float, scale_added: float, scale_out: float | None, side: int, *,
        share: float = 1.0, real: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self._weights = _Weights(convolution, scale_in, side, share, real=real)
        self._scale_in, self._scale_added, self._scale_out, self._real = scale_in, scale_added, scale_out, real

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """N×C×H×W and N×Cin×H×W to N×C×H×W; in 8 bits ``x`` is gone."""
        weights = self._weights
        if not self._real:
            total = x * self._scale_added + weights.convolved(found * self._scale_in)
            return total if self._scale_out is None else _rounded(total / self._scale_out)
        into, scale_added = (x, self._scale_added) if self._scale_out else (x.float() * self._scale_added, 1.0)
        added: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            found, self._scale_in, 0, weights.packed, weights.scales, weights.zeros, into, weights.bias, [1, 1], [0, 0],
            [1, 1], 1, self._scale_out or 1.0, 0, torch.uint8 if self._scale_out else torch.float32, scale_added, 0,
            "sum", 1.0, "relu" if self._scale_out else None, [None], "",
        )  # fmt: skip
        return added


class _Residual(nn.Module):
    def __init__(self, joined: nn.Module, added: _Added) -> None:
        super().__init__()
        self._joined, self._added = joined, added

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self._added(x, self._joined(x))
        return found


class _Joined(nn.Module):
    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self._branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self._branches], 1)


class _Pooled(nn.Module):
    """The maximum over 3×3 pixels, every second one, which PyTorch has no 8-bit operator for; rescaled."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def forward(self, x: Tensor) -> Tensor:
        height, width = ((side - 1) // 2 for side in x.shape[2:])
        for dimension, length in ((3, width), (2, height)):
            first, middle, last = (x.narrow(dimension, start, 2 * length - 1) for start in range(3))
            every_second = (*[slice(None)] * dimension, slice(None, None, 2))
            x = torch.maximum(torch.maximum(first[every_second], middle[every_second]), last[every_second])
        if self._factor != 1:
            x = _rounded(x.float() * self._factor).to(x.dtype)
        return x.contiguous(memory_format=torch.channels_last)


def _rounded(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, TOP)
