"""How many threads compute what is computed at the moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def computing_threads(*, shared: bool) -> Iterator[None]:
    """PyTorch computes with half of its threads in the block, or with all.

    Threads that share one operation wait for the slowest of them. Where something else needs the cores, that one is
    slow, and two operations side by side are done sooner than one after the other.

    Args:
        shared: whether something else is computed beside the block.
    """
    import torch

    usual = torch.get_num_threads()
    if not shared or usual == 1:
        yield
        return
    torch.set_num_threads(usual // 2)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
