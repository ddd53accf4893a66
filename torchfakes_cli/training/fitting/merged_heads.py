"""Branches that begin with a 1×1 convolution of the same input, begun together in training on the CPU.

Most of these convolutions are narrow, and batch norm and ReLU follow each. One convolution to the channels of all of
them, with one batch norm after it, gives the same values in fewer and larger pieces of work: the input is read once,
and its gradient comes out summed up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.inception_resnet import Branches, ConvNormRelu, ResidualBlock


class MergedBranches(Branches):
    """Branches that begin together under autocast in training."""

    def joined(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        if not torch.is_autocast_enabled("cpu") or not self.training:
            return super().joined(x)
        branches = [self.get_submodule(name) for name in self._names]
        heads = [head for branch in branches if (head := _head(branch)) is not None]
        begun = iter(_apply_together(heads, x))
        found = []
        for branch in branches:
            if _head(branch) is None:
                found.append(branch(x))
            else:
                found.append(branch[1:](next(begun)) if isinstance(branch, nn.Sequential) else next(begun))
        return torch.cat(found, 1)


class MergedResidualBlock(MergedBranches, ResidualBlock):
    """The same, of a residual block."""


def merge_heads(network: nn.Module) -> None:
    """Make branches of a network that can begin together do so; weights and names stay."""
    merged = {Branches: MergedBranches, ResidualBlock: MergedResidualBlock}
    for module in network.modules():
        kind = merged.get(type(module))
        if kind is not None and sum(_head(child) is not None for child in module.children()) > 1:
            module.__class__ = kind


def _head(branch: nn.Module) -> ConvNormRelu | None:
    """The 1×1 convolution that a branch begins with, if it does."""
    first = branch[0] if isinstance(branch, nn.Sequential) else branch
    return first if isinstance(first, ConvNormRelu) and first.conv.kernel_size == (1, 1) else None


def _apply_together(heads: Sequence[ConvNormRelu], x: Tensor) -> Sequence[Tensor]:
    """What each of them gives for N×C×H×W; their batch norms learn as they would by themselves."""
    norms = [head.bn for head in heads if isinstance(head.bn, nn.BatchNorm2d)]
    assert len(norms) == len(heads), "not folded"
    half = torch.bfloat16
    found = functional.conv2d(x.to(half), torch.cat([head.conv.weight.to(half) for head in heads]))
    means, variances = ([getattr(norm, name) for norm in norms] for name in ("running_mean", "running_var"))
    mean, variance = torch.cat(means), torch.cat(variances)
    found = functional.batch_norm(
        found, mean, variance, torch.cat([norm.weight for norm in norms]), torch.cat([norm.bias for norm in norms]),
        training=True, momentum=norms[0].momentum or 0.0, eps=norms[0].eps,
    )  # fmt: skip
    widths = [len(one) for one in means]
    torch._foreach_copy_([*means, *variances], [*mean.split_with_sizes(widths), *variance.split_with_sizes(widths)])
    for norm in norms:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
    return functional.relu_(found).split_with_sizes(widths, 1)
