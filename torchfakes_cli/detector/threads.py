"""How many threads PyTorch computes with, for a while, and whether they share one thing or do several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Part = TypeVar("Part")
Result = TypeVar("Result")


def set_threads(count: int) -> None:
    """PyTorch computes with so many threads in this thread from now on.

    Args:
        count: of threads; one or more.
    """
    # A thread takes over another one's number when it first uses PyTorch, which setting the number isn't.
    torch.get_num_threads()
    torch.set_num_threads(count)


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


def products(rows: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float32]:
    """The scalar product of each of N rows with each of K others, computed in float32 with PyTorch's threads.

    NumPy has threads of its own, which wait for the next product in a busy loop and slow down all that is computed
    beside them.

    Args:
        rows: N×D.
        others: K×D.

    Returns:
        N×K.
    """
    left, right = (torch.from_numpy(np.require(each, np.float32, ["C", "W"])) for each in (rows, others))
    return np.asarray((left @ right.T).numpy(), np.float32)


class SideBySide:
    """Threads that compute parts of one thing at once, each with its share of PyTorch's threads.

    Threads that share one operation wait for each other after every one, and those of a network are short.

    Args:
        most: parts that there may be.
    """

    def __init__(self, most: int) -> None:
        self._threads = ThreadPoolExecutor(max(1, most - 1), "part")  # begun as they are needed

    def each(self, compute: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
        """What is computed of each part, in their order; at most as many as PyTorch has threads here.

        Raises:
            Exception: what ``compute`` raises of the first part that fails.
        """
        if len(parts) < 2:
            return [compute(part) for part in parts]
        usual = torch.get_num_threads()
        share = max(1, usual // len(parts))

        def work(part: Part) -> Result:
            set_threads(share)
            return compute(part)

        found = [self._threads.submit(work, part) for part in parts[1:]]
        try:
            with threads_at_most(share):
                first = compute(parts[0])
            return [first, *(each.result() for each in found)]
        finally:
            wait(found)
            # For threads that first use PyTorch from now on.
            torch.set_num_threads(usual)
