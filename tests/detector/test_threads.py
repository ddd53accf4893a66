from __future__ import annotations

from threading import Barrier, current_thread

import pytest
import torch

from torchfakes_cli.detector.threads import SideBySide, threads_at_most


def test_parts_are_computed_at_once_each_with_its_share_of_threads() -> None:
    usual, meet = torch.get_num_threads(), Barrier(3, timeout=10)

    def compute(part: int) -> tuple[int, int, str]:
        meet.wait()  # fails where one waits for another
        return part, torch.get_num_threads(), current_thread().name

    try:
        torch.set_num_threads(6)
        found = SideBySide(3).each(compute, [3, 1, 2])
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(usual)
    assert [(part, threads) for part, threads, _ in found] == [(3, 2), (1, 2), (2, 2)]
    assert len({name for _, _, name in found}) == 3


@pytest.mark.parametrize("bad", [0, 1])
def test_the_error_of_a_part_is_raised(bad: int) -> None:
    def compute(part: int) -> int:
        if part == bad:
            raise RuntimeError(f"part {part}")
        return part

    with threads_at_most(1), pytest.raises(RuntimeError, match=f"part {bad}"):
        SideBySide(2).each(compute, [0, 1])
