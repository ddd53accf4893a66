"""Which optimizer moves the weights, and how fast: over the steps of a training and over the depth of the network."""

from __future__ import annotations

import math

import torch
from torch import nn

from torchfakes_cli.config import TrainConfig
from torchfakes_cli.training.fitting.blocks import block_parameters

#: A falling learning rate ends at this share of its highest.
LAST_RATE = 0.01
#: Of SGD.
MOMENTUM = 0.9
#: Highest learning rates where none is asked for: from random weights, and from weights that know faces.
USUAL_RATES = {"adamw": (1e-3, 1e-4), "adam": (1e-3, 1e-4), "sgd": (1e-1, 1e-2)}


def highest_rate(config: TrainConfig) -> float:
    """The learning rate at its highest: the one asked for, or the optimizer's usual one."""
    fresh, tuned = USUAL_RATES[config.optimizer]
    return config.learning_rate or (fresh if config.start == "scratch" else tuned)


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer over all weights, in groups of one block each that carry their ``highest`` learning rate.

    Earlier blocks see what all pictures share and need to change less: each block's rate is ``layer_decay`` times the
    next one's (Howard and Ruder, "Universal Language Model Fine-tuning", 2018). Weights of convolutions and layers
    decay; scales and shifts, which hold no capacity, don't.
    """
    groups = []
    blocks = block_parameters(network)
    for place, parameters in enumerate(blocks.values()):
        rate = highest_rate(config) * config.layer_decay ** (len(blocks) - 1 - place)
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            decay = config.weight_decay if decays else 0.0
            groups.append({"params": chosen, "lr": rate, "highest": rate, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, fused=True)
    # Unfused, the optimizer took a tenth of a whole update on two cores, and fused less than half of that.
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to a share of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["highest"] * factor


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
