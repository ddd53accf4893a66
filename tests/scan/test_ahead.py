from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from torchfakes_cli.errors import DecodeError
from torchfakes_cli.records import Frame
from torchfakes_cli.scan.ahead import batches_ahead

SIDE = 10


def frames(count: int, error: Exception | None = None) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(number / 25, number, np.zeros((SIDE, SIDE, 3), np.uint8))
    if error:
        raise error


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_every_frame_comes_once_and_in_order() -> None:
    batches = list(batches_ahead(frames(10), max_frames=4, max_pixels=10**6))
    assert [[frame.index for frame in batch] for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert decoding_threads() == []


def test_a_frame_larger_than_the_limit_still_comes() -> None:
    batches = list(batches_ahead(frames(3), max_frames=4, max_pixels=1))
    assert [len(batch) for batch in batches] == [1, 1, 1]


def test_frames_alive_stay_within_the_limit() -> None:
    alive = most = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def watched() -> Iterator[Frame]:
        nonlocal alive
        for frame in frames(200):
            alive += 1
            weakref.finalize(frame.pixels, gone)
            yield frame

    with closing(batches_ahead(watched(), max_frames=100, max_pixels=12 * SIDE * SIDE)) as batches:
        for batch in batches:
            time.sleep(0.002)  # lets the decoder run as far ahead as it may
            most = max(most, alive)
            assert len(batch) <= 4
    # The one frame more is the first of the next batch, which showed that the last one is full.
    assert most <= 12 + 4 + 1


def test_an_error_of_the_decoder_reaches_the_consumer_after_the_good_frames() -> None:
    batches = batches_ahead(frames(6, DecodeError("damaged")), max_frames=2, max_pixels=10**6)
    assert [frame.index for batch in (next(batches), next(batches)) for frame in batch] == [0, 1, 2, 3]
    with pytest.raises(DecodeError, match="damaged"):
        next(batches)
    assert decoding_threads() == []


def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    started = time.monotonic()
    with closing(batches_ahead(frames(10**9), max_frames=4, max_pixels=10**6)) as batches:
        next(batches)
    assert decoding_threads() == []
    assert time.monotonic() - started < 2
