"""InceptionResnetV1 as nine blocks in the order a picture goes through them: to freeze, to pace, and to watch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

#: The blocks' names, and the network's children in each. The first block is all that comes before ``repeat_1``.
BLOCKS: dict[str, tuple[str, ...]] = {
    "stem": ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a", "conv2d_4b"),
    "repeat_1": ("repeat_1",),
    "mixed_6a": ("mixed_6a",),
    # The second one is there in training alone, see ``localise``.
    "repeat_2": ("repeat_2", "mask_head"),
    "mixed_7a": ("mixed_7a",),
    "repeat_3": ("repeat_3",),
    "block8": ("block8",),
    "embedding": ("last_linear", "last_bn"),
    "logits": ("logits",),
}


def block_modules(network: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    """Each block's name and modules, from the picture to the logit."""
    present = dict(network.named_children())
    for name, children in BLOCKS.items():
        yield name, [present[child] for child in children if child in present]


def block_parameters(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Each block's parameters, from the picture to the logit; every parameter is in one of them."""
    return {name: [p for m in modules for p in m.parameters()] for name, modules in block_modules(network)}


def set_training(network: nn.Module, frozen: int) -> None:
    """Put a network into training mode, but for its first blocks.

    Args:
        network: is changed.
        frozen: so many blocks keep their weights and batch-norm figures.
    """
    network.train()
    for place, (_, modules) in enumerate(block_modules(network)):
        for module in modules:
            module.train(place >= frozen)
            module.requires_grad_(place >= frozen)


def gradient_norms(parameters: dict[str, list[nn.Parameter]]) -> Tensor:
    """Euclidean norm of each block's gradient: where it vanishes, nothing is learnt.

    Args:
        parameters: as ``block_parameters`` gives them.

    Returns:
        Shape (blocks,), float32, on the parameters' device; 0 for a frozen block.
    """
    return torch.stack([_norm(block) for block in parameters.values()])


def _norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else parameters[0].new_zeros(())
