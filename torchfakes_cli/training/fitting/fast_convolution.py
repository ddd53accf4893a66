"""bfloat16 convolutions whose weights' gradients are plain matrix products.

oneDNN's own kernel for those gradients took about 127 ms a call, however small the convolution, on two busy cores with
AVX-512 and no AMX (probably its threads spin while they wait for one another). A training step was then nearly twice as
long as in float32. One matrix product for each place of the kernel gives the same sums, and a step took 0.6 times as
long as in float32 there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class _Convolution(torch.autograd.Function):
    """A two-dimensional convolution without dilation, groups or bias."""

    @staticmethod
    def forward(
        ctx: Any, pictures: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(pictures, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(pictures, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        pictures, weight = ctx.saved_tensors
        to_pictures = to_weight = None
        if ctx.needs_input_grad[0]:
            to_pictures = torch.ops.aten.convolution_backward(
                gradient, pictures, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1,
                (True, False, False),
            )[0]  # fmt: skip
        if ctx.needs_input_grad[1]:
            to_weight = _weight_gradient(pictures, weight, gradient, ctx.stride, ctx.padding)
        return to_pictures, to_weight, None, None


def _weight_gradient(
    pictures: Tensor, weight: Tensor, gradient: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """For each place of the kernel, the product of the outputs' gradients with the inputs that the place met."""
    inputs = functional.pad(pictures.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    outputs = gradient.permute(0, 2, 3, 1)
    places = [(y, x) for y in range(weight.shape[2]) for x in range(weight.shape[3])]
    found = weight.new_empty(weight.shape[2:] + weight.shape[:2])
    if stride == (1, 1):
        # Laid out as the inputs are, with zeros where the kernel would leave them, each output lies a fixed number of
        # pixels before all that a place met: whole rows of memory are multiplied, and nothing is copied for a place.
        _, height, width, _ = inputs.shape
        outputs = functional.pad(outputs, (0, 0, 0, width - outputs.shape[2], 0, height - outputs.shape[1])).reshape(
            -1, weight.shape[0]
        )
        inputs = inputs.reshape(-1, weight.shape[1])
        for y, x in places:
            later = y * width + x
            torch.mm(outputs[: len(outputs) - later].t(), inputs[later:], out=found[y, x])
        return found.permute(2, 3, 0, 1)
    height, width = outputs.shape[1:3]
    outputs = outputs.reshape(-1, weight.shape[0]).t()
    for y, x in places:
        rows = slice(y, y + stride[0] * (height - 1) + 1, stride[0])
        columns = slice(x, x + stride[1] * (width - 1) + 1, stride[1])
        torch.mm(outputs, inputs[:, rows, columns].reshape(-1, weight.shape[1]), out=found[y, x])
    return found.permute(2, 3, 0, 1)


class FastConvolution(nn.Conv2d):
    """A convolution that computes in bfloat16 under autocast, with gradients as above."""

    def forward(self, pictures: Tensor) -> Tensor:
        """N×C×H×W to N×K×H×W."""
        if not torch.is_autocast_enabled("cpu") or not self.training:
            return super().forward(pictures)
        half = torch.bfloat16
        found: Tensor = _Convolution.apply(pictures.to(half), self.weight.to(half), self.stride, self.padding)
        return found


def quicken_convolutions(network: nn.Module) -> None:
    """Make the wide convolutions of a network on the CPU ``FastConvolution``; weights and names stay."""
    for module in network.modules():
        plain = type(module) is nn.Conv2d and module.bias is None and module.groups == 1 and module.dilation == (1, 1)
        if plain and module.kernel_size != (1, 1) and not isinstance(module.padding, str):
            module.__class__ = FastConvolution
