"""Decodes stretches of a file at once, by several decoders of one thread each.

Such decoders don't wait for one another. The frame threads within one decoder do: each for the frames that its own
builds on, which takes 1.3 times the processor time on two cores, and gains little where frames are left out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Full, Queue
from threading import Event
from typing import TYPE_CHECKING

from torchfakes_cli.video.opening import open_video
from torchfakes_cli.video.spans import THREADS_PIXELS, SpanDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from av.video.frame import VideoFrame

    from torchfakes_cli.video.index import FrameIndex
    from torchfakes_cli.video.spans import Span

    # A frame and its place, an error, or None at the end of a stretch.
    Found = Queue[tuple[int, VideoFrame] | BaseException | None]

#: Pixels of decoded pictures that wait for their turn, for each decoder …
_WAITING_PIXELS = 8 * 1920 * 1080
#: … and at most so many pictures.
_WAITING = 32
#: More decoders only read more packets for one another, a second of processor time for two hours of video each.
_MOST_DECODERS = 4
#: In pictures with so many pixels at most, faces sought once a second take a core as long as decoding takes another.
_SMALL_PIXELS = 960 * 540
#: Pixels that all decoders may have in one picture each: a decoder holds up to 16 more.
_DECODERS_PIXELS = 4 * THREADS_PIXELS
# A blocked thread looks up this often, to see whether it should stop.
_LOOK_UP_S = 0.1


def threads_for(pixels: int, cores: int) -> int:
    """How many threads decode a file that has the cores to itself: one a core, but of small pictures one fewer.

    Args:
        pixels: of a picture.
        cores: one or more; whoever looks at the pictures computes on them, too.
    """
    return max(1, cores - 1) if pixels <= _SMALL_PIXELS else cores


def decoders_for(pixels: int, spans: int, wanted: int, threads: int) -> int:
    """How many decoders are worth having for one file.

    Args:
        pixels: of a picture.
        spans: how many stretches must be decoded.
        wanted: frames in all of them; where they are more than may wait, one decoder's threads do better.
        threads: that may run.
    """
    if pixels > THREADS_PIXELS or wanted > spans * _waiting(pixels):
        return 1
    return max(1, min(threads, spans, _MOST_DECODERS, _DECODERS_PIXELS // max(1, pixels)))


def decode_side_by_side(
    path: str,
    index: FrameIndex,
    spans: Sequence[Span],
    places: Sequence[int],
    *,
    pixels: int,
    decoders: int,
    threads: int,
    on_packet: Callable[[], None] | None,
    edit_lists: bool,
) -> Generator[tuple[int, VideoFrame], None, None]:
    """Decodes the frames at ``places``, which lie in ``spans``, fast; yields them in order, as (place, frame).

    Args:
        path: of the file.
        index: of its frames.
        spans: in order.
        places: increasing.
        pixels: of a picture.
        decoders: that work at once; each opens the file.
        threads: of each decoder.
        on_packet: called for every packet that is read, from several threads.
        edit_lists: FFmpeg applies them.

    Raises:
        LostError: a packet was refused, or a picture is damaged; raised after the frames before it.
    """
    wanted = frozenset(places)
    stop = Event()
    queues: list[Found] = [Queue(_waiting(pixels)) for _ in range(decoders)]

    def work(found: Found, own: Sequence[Span]) -> None:
        try:
            with open_video(path, edit_lists=edit_lists) as video:
                decoder = SpanDecoder(video, index, places, careful=False, threads=threads, on_packet=on_packet)
                for span in own:
                    for place, frame in decoder.frames(span):
                        if stop.is_set():
                            return
                        if place in wanted:
                            _put((place, frame), found, stop)
                    _put(None, found, stop)
        except BaseException as error:  # noqa: BLE001 - raised again where the frames are taken
            _put(error, found, stop)

    with ThreadPoolExecutor(decoders, thread_name_prefix="span") as pool:
        try:
            for number, found in enumerate(queues):
                pool.submit(work, found, spans[number::decoders])
            for number in range(len(spans)):
                yield from _taken(queues[number % decoders])
        finally:
            stop.set()


def _waiting(pixels: int) -> int:
    """How many decoded pictures may wait for their turn, for each decoder."""
    return min(_WAITING, max(1, _WAITING_PIXELS // max(1, pixels)))


def _taken(found: Found) -> Generator[tuple[int, VideoFrame], None, None]:
    """The frames of one stretch."""
    while True:
        try:
            item = found.get(timeout=_LOOK_UP_S)
        except Empty:
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


def _put(item: tuple[int, VideoFrame] | BaseException | None, found: Found, stop: Event) -> None:
    while not stop.is_set():
        try:
            found.put(item, timeout=_LOOK_UP_S)
        except Full:
            continue
        return
