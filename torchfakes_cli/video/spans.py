"""The stretches of a file that some frames need, and decoding them one after the other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import av
import numpy as np

from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.opening import AV_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from torchfakes_cli.video.index import FrameIndex
    from torchfakes_cli.video.opening import OpenVideo

    #: The first and the last packet of a stretch, by number.
    Span = tuple[int, int]

#: Pictures above this many pixels (4K) are decoded one at a time: each that is worked at holds several of them.
THREADS_PIXELS = 4096 * 2304

#: FFmpeg warns of more threads in one decoder.
_MOST_THREADS = 16

#: Decoders that look at ``skip_frame`` packet by packet; others read it once, when they open.
_SKIPPING_DECODERS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})

#: Decoders that adapt to flaws of an encoder when the first packet has told its version: of x264 before core 151 in
#: 4:4:4 H.264, as in FaceForensics++, and of Xvid, DivX and old FFmpeg in MPEG-4.
_ADAPTING_DECODERS = frozenset({"h264", "mpeg4"})

#: How many key frames earlier careful decoding begins; a picture that is refreshed in stripes is whole after that many.
_KEYS_BACK = 2


class LostError(Exception):
    """Fast decoding met damage: decode again with care from the first frame that is missing."""


def spans_of(index: FrameIndex, places: Sequence[int], *, careful: bool) -> list[Span]:
    """The stretches of packets, in order, that must be decoded for the frames at increasing ``places``.

    Each begins at a key frame and ends with the last packet needed: what lies between two of them isn't decoded.
    Packets between are read and passed over rather than sought across: that takes 0.6 s for two hours at 480p, and
    works in every container. If ``careful``, each begins some key frames earlier, for there are such as build up over
    the time to the next (intra refresh).
    """
    if index.stamps is None:
        return [(0, sys.maxsize)]
    entries = index.entries
    if careful:
        distinct = np.unique(entries)
        entries = distinct[np.maximum(np.searchsorted(distinct, entries) - _KEYS_BACK, 0)]
    spans: list[Span] = []
    for place in places:
        start, end = int(entries[place]), int(index.packets[place])
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans


class SpanDecoder:
    """Decodes stretches of one open file, one after the other.

    Args:
        video: of which nothing has been read.
        index: of its frames.
        places: of the frames that are wanted; not ``careful``, frames that neither these nor others need are left out.
        careful: decode every packet, and skip and count those that the decoder refuses.
        threads: of the decoder, where it isn't ``careful``.
        on_packet: called for every packet that is read.

    Attributes:
        refused: packets that the decoder refused.
    """

    def __init__(
        self,
        video: OpenVideo,
        index: FrameIndex,
        places: Sequence[int],
        *,
        careful: bool,
        threads: int,
        on_packet: Callable[[], None] | None,
    ) -> None:
        self.refused = 0
        self._index = index
        self._careful = careful
        self._context = context = video.stream.codec_context
        small = context.width * context.height <= THREADS_PIXELS
        context.thread_type = "AUTO" if small and not careful else "SLICE"
        # What H.264's decoder makes up where parts are missing depends on whether it is alone.
        context.thread_count = 1 if careful else min(threads, _MOST_THREADS)
        if not careful and not index.leading.any():
            # Threads patch up damaged pictures differently each time: have damage reported instead. Entering a stream
            # of open GOPs would be reported, too.
            context.options = {**context.options, "err_detect": "explode"}
        if careful:
            # Some decoders (HEVC) keep pictures with flaws to themselves, and whole ones are preferred later on.
            context.options = {**context.options, "flags": "+output_corrupt"}
        self._skipping = context.name in _SKIPPING_DECODERS and not careful
        self._needed = {int(index.packets[place]) for place in places}
        self._finder = _PlaceFinder(index.stamps)
        self._packets = enumerate(PacketReader(lambda: video.container.demux(video.stream), on_packet))

    def frames(self, span: Span) -> Generator[tuple[int, VideoFrame], None, None]:
        """Decodes a stretch that begins after the one before; what comes, as (place, frame), in order.

        Raises:
            LostError: not ``careful``, and a packet was refused or a picture is damaged.
        """
        start, end = span
        entering = not self._careful
        for number, packet in self._packets:
            if number < start:
                if number == 0 and self._context.name in _ADAPTING_DECODERS:
                    self._show_encoder(packet)
                continue
            entering &= number == start or not packet.is_keyframe
            if entering and self._index.leading[number]:
                continue
            if self._skipping:
                self._context.skip_frame = "DEFAULT" if number in self._needed else "NONREF"
            yield from self._identified(packet)
            if number >= end:
                break
        yield from self._identified(None)
        self._context.flush_buffers()

    def _show_encoder(self, first: Packet[VideoStream]) -> None:
        """Decodes the first packet for what it says of the encoder: the decoder keeps that when it is flushed."""
        for packet in (first, None):
            try:
                self._context.decode(packet)
            except MemoryError:
                raise
            except AV_ERRORS:
                pass
        self._context.flush_buffers()

    def _identified(self, packet: Packet[VideoStream] | None) -> Generator[tuple[int, VideoFrame], None, None]:
        """The frames that a packet completes, or with None those that the decoder still holds."""
        try:
            frames = self._context.decode(packet)
        except av.EOFError:
            return
        except AV_ERRORS as error:
            if not self._careful:
                raise LostError from error
            if isinstance(error, MemoryError):  # care needs the least of it
                raise
            self.refused += 1
            self._finder.skip()
            return
        for frame in frames:
            if frame.is_corrupt and not self._careful:
                raise LostError
            place = self._finder.find(frame)
            if place is not None:
                yield place, frame


class _PlaceFinder:
    """Tells the place of a decoded frame in presentation order: by its timestamp or, without any, by counting."""

    def __init__(self, stamps: NDArray[np.int64] | None) -> None:
        self._places = None if stamps is None else dict(zip(stamps.tolist(), range(len(stamps)), strict=True))
        self._counted = 0

    def find(self, frame: VideoFrame) -> int | None:
        """The place of the next frame that was decoded; None for one that the index doesn't know."""
        if self._places is not None:
            return None if frame.pts is None else self._places.get(frame.pts)
        self._counted += 1
        return self._counted - 1

    def skip(self) -> None:
        """A packet was lost, and a frame with it."""
        self._counted += 1
