"""Face candidates of the cascade in batches: N pictures with up to K candidate boxes each.

A picture with fewer than K candidates is padded with candidates of score 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Rounds of non-maximum suppression on a graphics card, where a convergence check would force a synchronisation. The
#: result is exact for candidates whose chain of overlapping better candidates is shorter than this.
ROUNDS_ON_DEVICE = 16


class Candidates(NamedTuple):
    """Face candidates of a batch of pictures.

    Attributes:
        boxes: N×K×4 in pixels, in MTCNN's one-based coordinates (see ``from_zero``).
        scores: N×K, best first within a picture; 0 for padding.
    """

    boxes: Tensor
    scores: Tensor


def chosen(scores: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """Selects the candidates with a positive score, best first.

    Args:
        scores: N×K; 0 for rejected candidates.
        most: maximum number per picture; None for all, which synchronises with the device.

    Returns:
        Scores and candidate indices, N×k.
    """
    count = int((scores > 0).sum(1).max()) if most is None else min(most, scores.shape[1])
    best: tuple[Tensor, Tensor] = torch.topk(scores, count, dim=1)
    return best


def at(values: Tensor, places: Tensor) -> Tensor:
    """Gathers the values (N×K×C) of the candidates with the given indices (N×k)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def shifted(boxes: Tensor, offsets: Tensor, *, inclusive: bool = True) -> Tensor:
    """Moves the corners of boxes (…×4) by offsets (…×4), which are shares of the box sides.

    ``inclusive`` measures sides as MTCNN's second and third networks were trained: the last pixel belongs to the box.
    """
    side = boxes[..., 2:] - boxes[..., :2] + (1 if inclusive else 0)
    return boxes + offsets * torch.cat([side, side], -1)


def squared(boxes: Tensor) -> Tensor:
    """Extends the shorter side of each box (…×4) to the longer one, about the box's centre."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], -1)


def from_zero(boxes: Tensor) -> Tensor:
    """Converts MTCNN's boxes, one-based with inclusive ends, to zero-based boxes with exclusive ends."""
    return boxes - boxes.new_tensor([1, 1, 0, 0])


def suppressed(candidates: Candidates, threshold: float, *, contained: bool = False) -> Tensor:
    """Non-maximum suppression: drops every candidate that overlaps a better candidate that is kept.

    Args:
        candidates: candidates, best first.
        threshold: overlap above which the worse candidate is dropped.
        contained: divide the intersection by the smaller area instead of by the union.

    Returns:
        Scores (N×K), 0 for dropped candidates.
    """
    boxes, scores = candidates
    extra = 1 if contained else 0  # facenet-pytorch includes the last pixel only in this variant
    left, top, right, bottom = boxes.unbind(2)
    area = (right - left + extra) * (bottom - top + extra)
    width = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    height = torch.minimum(bottom[:, :, None], bottom[:, None]) - torch.maximum(top[:, :, None], top[:, None])
    shared = (width + extra).clamp(min=0) * (height + extra).clamp(min=0)
    ours, theirs = area[:, :, None], area[:, None]
    whole = torch.minimum(ours, theirs) if contained else ours + theirs - shared
    clash = (shared > threshold * whole).tril(-1)  # only with better candidates, which come first
    there = scores > 0
    kept = there
    for _ in range(scores.shape[1] if boxes.device.type == "cpu" else ROUNDS_ON_DEVICE):
        before, kept = kept, there & ~(clash & kept[:, None]).any(2)
        if boxes.device.type == "cpu" and torch.equal(before, kept):
            break
    return torch.where(kept, scores, 0)
