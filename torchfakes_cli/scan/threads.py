"""How the cores are shared among what is computed at the same time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def computing_threads(*, shared: bool) -> AbstractContextManager[None]:
    """PyTorch computes with half of its threads in the block, or with all.

    Threads that share one operation wait for the slowest of them. Where something else needs the cores, that one is
    slow, and two operations side by side are done sooner than one after the other.

    Args:
        shared: whether something else is computed beside the block.
    """
    import torch

    from torchfakes_cli.detector.threads import threads_at_most

    return threads_at_most(max(1, torch.get_num_threads() // 2)) if shared else nullcontext()
