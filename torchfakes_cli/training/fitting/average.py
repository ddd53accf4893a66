"""The running average of the weights, which scores better than the weights of any one step."""

from __future__ import annotations

import copy

import torch
from torch import nn


class RunningAverage:
    """An exponential moving average of a network, batch norm's running figures included.

    Args:
        network: whose weights are averaged.
        decay: share of the average kept at each step; 0 for no average at all.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._network = network
        self._copy = copy.deepcopy(network).eval().requires_grad_(False) if decay else None

    @property
    def network(self) -> nn.Module:
        """What is to be validated and kept."""
        return self._network if self._copy is None else self._copy

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the network after a step (from 0)."""
        if self._copy is None:
            return
        # A young average follows fast, so that it doesn't drag the first weights along.
        decay = min(self.decay, (1 + step) / (10 + step))
        kept = [*self._copy.parameters(), *(b for b in self._copy.buffers() if b.is_floating_point())]
        new = [*self._network.parameters(), *(b for b in self._network.buffers() if b.is_floating_point())]
        torch._foreach_lerp_(kept, [tensor.detach() for tensor in new], 1 - decay)
