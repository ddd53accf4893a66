"""How much memory there is, and how it shows when there is no more."""

from __future__ import annotations

import sys

import torch

#: What the CPU's allocators say when they fail, and oneDNN (of a memory object, or a primitive); CUDA has an exception.
_SAID = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "could not create a")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that less at once might work."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def release_memory(device: torch.device) -> None:
    """Give back what a failed attempt left in the allocator's cache."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_memory_mb(device: torch.device) -> float | None:
    """The most memory this training has taken, in MiB: of the card on CUDA, else of the process; None if untold."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
