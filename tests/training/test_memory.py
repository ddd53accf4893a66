"""Memory that every update takes again isn't fetched from the system again."""

from __future__ import annotations

import ctypes
import platform

import pytest

from torchfakes_cli.training.fitting.memory import keeping_freed_memory

PAGES = 16_384


def faults_of_a_buffer() -> int:
    """Pages that the system had to hand out for 64 MiB that are freed again."""
    import resource

    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = (ctypes.c_size_t,)
    library.free.argtypes = (ctypes.c_void_p,)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = library.malloc(PAGES * 4096)
    ctypes.memset(buffer, 1, PAGES * 4096)
    library.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_while_training_and_given_back_after() -> None:
    with keeping_freed_memory():
        kept = min(faults_of_a_buffer() for _ in range(4))
        assert kept < PAGES / 10
    # The first one alone: freed memory between two blocks in use may be kept afterwards, too. Pages may be huge ones.
    assert faults_of_a_buffer() > kept + PAGES // 1024
