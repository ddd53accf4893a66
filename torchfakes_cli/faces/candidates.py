"""Boxes of candidates, as the cascade moves, squares and thins them: N pictures with up to K candidates each.

A picture with fewer than K candidates has empty places, whose score is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Rounds of non-maximum suppression on a graphics card, where asking whether one was the last would mean to wait for
#: it. A candidate is judged right if the chain of better ones that decide its fate is shorter.
ROUNDS_ON_DEVICE = 16


class Candidates(NamedTuple):
    """What may be a face.

    Attributes:
        boxes: N×K×4 in pixels, counted as MTCNN does (see ``from_zero``).
        scores: N×K, best first within a picture; 0 where there is none.
    """

    boxes: Tensor
    scores: Tensor


def chosen(scores: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """The candidates with a score, best first.

    Args:
        scores: N×K; 0 for those that aren't wanted.
        most: to choose of each picture; None for as many as there are, which means to wait for the device.

    Returns:
        Scores and places, N×k.
    """
    count = int((scores > 0).sum(1).max()) if most is None else min(most, scores.shape[1])
    best: tuple[Tensor, Tensor] = torch.topk(scores, count, dim=1)
    return best


def at(values: Tensor, places: Tensor) -> Tensor:
    """Values (N×K×C) of the candidates at places (N×k)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def shifted(boxes: Tensor, offsets: Tensor, *, inclusive: bool = True) -> Tensor:
    """Move the corners of boxes (…×4) by offsets (…×4) given as shares of their sides.

    ``inclusive`` counts sides as MTCNN's later networks were trained to: the last pixel belongs to the box.
    """
    side = boxes[..., 2:] - boxes[..., :2] + (1 if inclusive else 0)
    return boxes + offsets * torch.cat([side, side], -1)


def squared(boxes: Tensor) -> Tensor:
    """Grow the shorter side of each box (…×4) to its longer one, about its centre."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], -1)


def from_zero(boxes: Tensor) -> Tensor:
    """The boxes with pixels counted from zero: MTCNN counts them from one, and a box ends with its last pixel."""
    return boxes - boxes.new_tensor([1, 1, 0, 0])


def suppressed(candidates: Candidates, threshold: float, *, contained: bool = False) -> Tensor:
    """Non-maximum suppression: drop every candidate that overlaps a better one that is kept.

    Args:
        candidates: best first.
        threshold: overlap above which the worse one goes.
        contained: compare what is shared with the smaller box instead of with both together.

    Returns:
        Scores (N×K), with 0 for those dropped.
    """
    boxes, scores = candidates
    extra = 1 if contained else 0  # facenet-pytorch counts the last pixel in here alone
    left, top, right, bottom = boxes.unbind(2)
    area = (right - left + extra) * (bottom - top + extra)
    width = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    height = torch.minimum(bottom[:, :, None], bottom[:, None]) - torch.maximum(top[:, :, None], top[:, None])
    shared = (width + extra).clamp(min=0) * (height + extra).clamp(min=0)
    ours, theirs = area[:, :, None], area[:, None]
    whole = torch.minimum(ours, theirs) if contained else ours + theirs - shared
    clash = (shared > threshold * whole).tril(-1)  # with better ones, which come first
    there = scores > 0
    kept = there
    for _ in range(scores.shape[1] if boxes.device.type == "cpu" else ROUNDS_ON_DEVICE):
        before, kept = kept, there & ~(clash & kept[:, None]).any(2)
        if boxes.device.type == "cpu" and torch.equal(before, kept):
            break
    return torch.where(kept, scores, 0)
