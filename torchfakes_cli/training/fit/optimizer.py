"""The optimizer, its learning rate over the steps of a training, and the gradients of the network's blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from torchfakes_cli.training.config import TrainConfig

#: A falling learning rate ends at this share of its highest.
LAST_RATE = 0.01
#: Of SGD.
MOMENTUM = 0.9
#: Highest learning rates where none is asked for: from random weights, and from pre-trained ones.
USUAL_RATES = {"adamw": (1e-3, 1e-4), "adam": (1e-3, 1e-4), "sgd": (1e-1, 1e-2)}
#: The stages of a network count each by itself; its first convolutions together.
_BLOCK = re.compile(r"(?:model\.)?((?:blocks|stages|layers)\.\d+|\w+)")
_TOGETHER = {"conv2d_": "stem", "last_": "embedding"}


def highest_rate(config: TrainConfig) -> float:
    """The learning rate at its highest: the one asked for, or the optimizer's usual one."""
    fresh, tuned = USUAL_RATES[config.optimizer]
    return config.learning_rate or (fresh if config.weights == "scratch" else tuned)


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer over all weights.

    Weights of convolutions and layers decay; scales and shifts, which hold no capacity, don't.
    """
    rate = highest_rate(config)
    groups = []
    for decays in (True, False):
        chosen = [parameter for parameter in network.parameters() if (parameter.ndim > 1) == decays]
        groups.append({"params": chosen, "lr": rate, "weight_decay": config.weight_decay if decays else 0.0})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, fused=True)
    # Unfused, the optimizer took a tenth of a whole update on two cores, and fused less than half of that.
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, fused=True)


def rate_factor(step: int, steps: int, schedule: str = "cosine", warm_up: float = 0.05) -> float:
    """The learning rate at a step as a share of its highest: a linear rise, then what the schedule says.

    Args:
        step: from 0.
        steps: of the whole training.
        schedule: ``cosine``, ``linear`` or ``constant``.
        warm_up: share of the steps over which it rises.
    """
    rise = int(warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    through = (step - rise) / max(1, steps - rise)
    if schedule == "constant":
        return 1.0
    left = 1 - through if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * through))
    return LAST_RATE + (1 - LAST_RATE) * left


def block_parameters(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of each block of a network, from the picture to the logit; every parameter is in one of them."""
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        found = _BLOCK.match(name)
        assert found is not None
        block = next((joined for start, joined in _TOGETHER.items() if found[1].startswith(start)), found[1])
        blocks.setdefault(block.replace(".", "_"), []).append(parameter)
    return blocks


def gradient_norms(blocks: Mapping[str, Sequence[nn.Parameter]]) -> Tensor:
    """Euclidean norm of each block's gradient: where it vanishes, nothing is learnt.

    Returns:
        Shape (blocks,), float32, on the parameters' device.
    """
    return torch.stack([_norm(block) for block in blocks.values()])


def _norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else parameters[0].new_zeros(())
