"""Share PyTorch's threads among concurrent computations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def set_threads(count: int) -> None:
    """Make PyTorch compute with ``count`` threads in the calling thread from now on."""
    import torch

    # A thread takes over another one's number when it first uses PyTorch, which setting the number isn't.
    torch.get_num_threads()
    torch.set_num_threads(count)


@contextmanager
def computing_threads(*, shared: bool) -> Iterator[None]:
    """Compute with half of PyTorch's threads in the block, or with all.

    Threads that share one operation wait for the slowest of them. Where something else needs the cores, that one is
    slow, and two operations side by side are done sooner than one after the other.

    Args:
        shared: True while something else computes beside the block.
    """
    import torch

    usual = torch.get_num_threads()
    if not shared or usual < 2:
        yield
        return
    torch.set_num_threads(usual // 2)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
