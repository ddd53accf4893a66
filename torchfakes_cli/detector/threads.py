"""How many threads PyTorch computes with, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads_at_most(count: int) -> Iterator[None]:
    """PyTorch computes with so many threads at most in the block, as far as this thread asks it to.

    A thread that first uses PyTorch meanwhile begins with this number as well, and keeps it.

    Args:
        count: of threads; one or more.
    """
    usual = torch.get_num_threads()
    if usual <= count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
