"""bfloat16 convolutions whose weights' gradients are a plain matrix product where they are small.

oneDNN's own kernel for those gradients took about 127 ms a call, however small the convolution, on two busy cores with
AVX-512 and no AMX (probably its threads spin while they wait for one another). A training step was then nearly twice as
long as in float32. The product of the outputs' gradients with all that the kernel saw from each place of the picture,
laid side by side, gives the same sums. For large convolutions the copy takes longer than oneDNN does, which was twice
as fast as a product for each place of the kernel, on quiet cores and beside a busy program.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Values that are laid side by side at most.
MOST_COPIED = 1 << 22


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
        met = weight[0].numel() * gradient[:, 0].numel()
        by_product = ctx.needs_input_grad[1] and met <= MOST_COPIED
        to_pictures, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, pictures, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1,
            (ctx.needs_input_grad[0], ctx.needs_input_grad[1] and not by_product, False),
        )  # fmt: skip
        if by_product:
            to_weight = _weight_gradient(pictures, weight, gradient, ctx.stride, ctx.padding)
        return to_pictures, to_weight, None, None


def _weight_gradient(
    pictures: Tensor, weight: Tensor, gradient: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The product of the outputs' gradients with the inputs that each of them came from."""
    channels_out, channels_in, high, wide = weight.shape
    inputs = functional.pad(pictures.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    met = inputs.unfold(1, high, stride[0]).unfold(2, wide, stride[1]).permute(0, 1, 2, 4, 5, 3)
    outputs = gradient.permute(0, 2, 3, 1).reshape(-1, channels_out)
    found = torch.mm(outputs.t(), met.reshape(len(outputs), -1))
    # As the weights lie in a network whose channels come last, so that nothing has to be turned round later.
    return found.reshape(channels_out, high, wide, channels_in).permute(0, 3, 1, 2)


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
