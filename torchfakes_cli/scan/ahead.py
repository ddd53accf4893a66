"""Decodes in a thread of its own while the batch before is being looked at, with a bounded store between the two."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from queue import Empty, Full, Queue
from threading import Event

from torchfakes_cli.records import Frame

# A blocked thread looks up this often, to see whether it should stop (and, on Windows, to notice Ctrl-C at all).
_LOOK_UP_S = 0.1

# Alive at any time: the batch being filled, the one waiting, and the one being looked at.
_BATCHES_ALIVE = 3


def batches_ahead(frames: Iterable[Frame], *, max_frames: int, max_pixels: int) -> Generator[list[Frame], None, None]:
    """Groups frames into batches, decoding ahead of the consumer.

    Close the generator (``contextlib.closing``) to stop early: the thread has ended when that returns. An error of
    ``frames`` is raised here, after the batches before it.

    Args:
        frames: taken from in the thread alone.
        max_frames: in one batch.
        max_pixels: of all frames alive at once, over all batches; a single larger frame is still let through.

    Yields:
        Batches of one or more frames, in order.
    """
    waiting: Queue[list[Frame] | None] = Queue(maxsize=1)
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        decoding = pool.submit(_fill, waiting, stop, frames, max_frames, max_pixels // _BATCHES_ALIVE)
        try:
            while (batch := _take(waiting)) is not None:
                yield batch
        finally:
            stop.set()
        decoding.result()


def _fill(
    waiting: Queue[list[Frame] | None], stop: Event, frames: Iterable[Frame], max_frames: int, max_pixels: int
) -> None:
    try:
        wanted = takewhile(lambda _: not stop.is_set(), frames)
        for batch in _grouped(wanted, max_frames, max_pixels):
            _put(waiting, batch, stop)
    finally:
        _put(waiting, None, stop)


def _grouped(frames: Iterable[Frame], max_frames: int, max_pixels: int) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    room = max_pixels
    for frame in frames:
        width, height = frame.size
        if batch and (len(batch) == max_frames or width * height > room):
            yield batch
            batch, room = [], max_pixels
        batch.append(frame)
        room -= width * height
    if batch:
        yield batch


def _put(waiting: Queue[list[Frame] | None], batch: list[Frame] | None, stop: Event) -> None:
    while not stop.is_set():
        try:
            waiting.put(batch, timeout=_LOOK_UP_S)
        except Full:
            continue
        return


def _take(waiting: Queue[list[Frame] | None]) -> list[Frame] | None:
    while True:
        try:
            return waiting.get(timeout=_LOOK_UP_S)
        except Empty:
            continue
