"""How much waits between a video's decoder and the networks."""

from __future__ import annotations

import pytest

from torchfakes_cli.scan.prefetch import has_room


@pytest.mark.parametrize(
    ("waiting", "room"),
    [
        ([], True),
        ([16, 16], True),
        ([16, 16, 16], False),
        ([32], False),
        ([1], True),
        ([1, 1, 1], False),
        ([64], False),
    ],
)
def test_another_batch_waits_only_where_there_is_room(waiting: list[int], *, room: bool) -> None:
    assert has_room(waiting) is room
