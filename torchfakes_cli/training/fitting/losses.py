"""What training makes small."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def couple_loss(logits: Tensor, labels: Tensor, ranking: float, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy, and how far each fake is from scoring above the real face it came with.

    What a couple shares (person, pose, light) cancels out of the second term, which leaves the manipulation.

    Args:
        logits: N×1; real and fake in turn where ``ranking`` isn't 0.
        labels: N×1, 0 and 1.
        ranking: weight of the second term.
        smoothing: how much less than certainty is asked for (Szegedy et al. 2016): 0.1 asks for 0.05 and 0.95.

    Returns:
        A scalar.
    """
    wanted = labels * (1 - smoothing) + smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(logits, wanted)
    return loss + ranking * functional.softplus(logits[0::2] - logits[1::2]).mean() if ranking else loss
