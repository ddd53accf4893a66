"""Share PyTorch's threads among concurrent computations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def set_threads(count: int) -> None:
    """Make PyTorch compute with ``count`` threads in the calling thread from now on."""
    import torch

    # The first read in a thread initialises its number, which would otherwise overwrite the one set below.
    torch.get_num_threads()
    torch.set_num_threads(count)


@contextmanager
def computing_threads(*, shared: bool) -> Iterator[None]:
    """Compute with half of PyTorch's threads in the block, or with all.

    The threads of one operation wait for the slowest of them, which is delayed if other work needs its core. Two
    concurrent operations therefore finish sooner with half of the threads each.

    Args:
        shared: True if something else computes concurrently with the block.
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
