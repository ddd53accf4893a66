"""Sharpness-aware minimisation: the gradient is taken where the loss is worst nearby, which favours flat minima."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def at_the_worst_nearby(network: nn.Module, rho: float) -> Iterator[None]:
    """Move the weights up their gradient by ``rho`` for the time of the block, in which batch norm learns nothing.

    Equation 2 of Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization" (ICLR 2021),
    https://arxiv.org/abs/2010.01412. The gradients are cleared before the block; afterwards the weights are, to the
    bit, what they were.

    Args:
        network: with gradients.
        rho: Euclidean length of the move.
    """
    moved = [p for p in network.parameters() if p.grad is not None]
    before = [p.detach().clone() for p in moved]
    with torch.no_grad():
        gradients = [p.grad for p in moved if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_add_(list(moved), torch._foreach_mul(gradients, rho / (norm + 1e-12)))
    network.zero_grad(set_to_none=True)
    try:
        with _still_batch_norm(network.modules()):
            yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(moved), before)


@contextmanager
def _still_batch_norm(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Batch norm normalises as in training without changing its running figures."""
    norms = [(module, module.momentum) for module in modules if isinstance(module, _BatchNorm)]
    for module, _ in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in norms:
            module.momentum = momentum
