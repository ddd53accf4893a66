"""torch.compile, where it pays and works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)


class _Compiled(nn.Module):
    """A compiled network that goes on as it was if compiling fails."""

    def __init__(self, network: nn.Module, warn: Callable[[str], None]) -> None:
        super().__init__()
        self.network = network
        self._fast: Any = torch.compile(network)
        self._warn = warn

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._fast is not None:
            try:
                found: torch.Tensor = self._fast(inputs)
            except torch._dynamo.exc.TorchDynamoException as error:
                logger.debug("compiling failed", exc_info=True)
                reason = str(error).strip().partition("\n")[0]
                self._warn(f"the network can't be compiled and is used as it is ({reason})")
                self._fast = None
            else:
                return found
        plain: torch.Tensor = self.network(inputs)
        return plain


def compiled(network: nn.Module, device: torch.device, warn: Callable[[str], None]) -> nn.Module:
    """The network, compiled by its first use on CUDA; on the CPU, where that alone takes many minutes, as it is.

    Args:
        network: shares its weights with what is returned.
        device: where it is.
        warn: told if it isn't compiled.
    """
    if device.type != "cuda":
        warn("compiling takes many minutes on the CPU: the network is used as it is")
        return network
    return _Compiled(network, warn)
