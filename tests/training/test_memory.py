"""Memory that every update takes again isn't fetched from the system again."""

from __future__ import annotations

import platform

import pytest
import torch

from torchfakes_cli.training.fitting.memory import keeping_freed_memory

PAGES = 16_384


def faults_of_a_tensor() -> int:
    """Pages that the system had to hand out for 64 MiB that are freed again."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(PAGES * 4096, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_while_training_and_given_back_after() -> None:
    with keeping_freed_memory():
        # Not at once: what is freed must first fit, with a margin for alignment, what is asked for.
        assert min(faults_of_a_tensor() for _ in range(8)) < PAGES / 10
    assert min(faults_of_a_tensor() for _ in range(8)) > PAGES / 2
