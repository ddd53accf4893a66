"""How memory is held on to, how much of it there is, and how it shows when there is no more."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: What the CPU's allocators say when they fail, and oneDNN (of a memory object, or a primitive); CUDA has an exception.
_SAID = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "could not create a")

# Parameters of mallopt in glibc's malloc.h, and the highest values that its malloc gives them by itself on 64 bits.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}
_KEPT = dict.fromkeys(_USUAL, 1 << 30)


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """For the time of the block, memory that is freed stays with the process, for what comes next; on Linux.

    Every update takes and frees the same. What glibc gave back to the system after one, the system had to clear for the
    next: a hundred MiB each time, and with it an update took a fifth longer on two cores. The peak stays what it was.
    """
    _tune_malloc(_KEPT)
    try:
        yield
    finally:
        _tune_malloc(_USUAL)


def _tune_malloc(values: dict[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):  # another C library than glibc
        return
    for parameter, value in values.items():
        library.mallopt(parameter, value)
    if values is _USUAL:
        library.malloc_trim(0)


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
