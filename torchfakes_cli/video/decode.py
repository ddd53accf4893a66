"""Decodes the wanted frames of a file: the GOP ranges they need, several at once where that pays, with care in damage.

A decode pass first goes fast: frames that nothing depends on are left out, and several decoders of one thread each work
on separate ranges. They don't wait for one another, as the frame threads within one decoder do, each for the frames
that its own builds on: that takes 1.3 times the processor time on two cores, and gains little where frames are skipped.
"""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.frame import PictureType

from torchfakes_cli.errors import MediaError
from torchfakes_cli.video.convert import PictureMaker
from torchfakes_cli.video.hardware import decodes_on_device, device_of, why_not
from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.limits import usable_cores
from torchfakes_cli.video.open import AV_ERRORS, OpenVideo, open_video

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from torchfakes_cli.video.index import FrameIndex
    from torchfakes_cli.video.open import OpenVideo

    #: The first and the last packet of a stretch, by number.
    GopRange = tuple[int, int]

    # A frame and its place, an error, or None at the end of a stretch.
    Found = Queue[tuple[int, VideoFrame] | BaseException | None]
    from collections.abc import Iterator

    from av.video.frame import VideoFrame

    from torchfakes_cli.video.probing import Probe

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


def gop_ranges(index: FrameIndex, places: Sequence[int], *, careful: bool) -> list[GopRange]:
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
    spans: list[GopRange] = []
    for place in places:
        start, end = int(entries[place]), int(index.packets[place])
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans


class RangeDecoder:
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

    def frames(self, span: GopRange) -> Generator[tuple[int, VideoFrame], None, None]:
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


def parallel_decoders(pixels: int, spans: int, wanted: int, threads: int) -> int:
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


def decode_parallel(
    path: str,
    index: FrameIndex,
    spans: Sequence[GopRange],
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

    def work(found: Found, own: Sequence[GopRange]) -> None:
        try:
            with open_video(path, edit_lists=edit_lists) as video:
                decoder = RangeDecoder(video, index, places, careful=False, threads=threads, on_packet=on_packet)
                for span in own:
                    for place, frame in decoder.frames(span):
                        if stop.is_set():
                            return
                        if place in wanted:
                            _put((place, frame), found, stop)
                    _put(None, found, stop)
        except BaseException as error:  # noqa: BLE001 - raised again where the frames are taken
            _put(error, found, stop)

    with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
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


#: Formats whose pictures build on the one before even where a packet is called a key frame: one decoder takes them all.
_IN_ORDER = frozenset({"apng"})


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How to decode; none of it changes which frames come, nor what is in them.

    Attributes:
        threads: that may work at once; None for one a core, or one fewer, see ``threads_for``.
        hwaccel: a device to decode on where that can be had, see ``hardware``; None for software.
        on_packet: called for every packet that is read, a sign of progress; from several threads.
    """

    threads: int | None = None
    hwaccel: str | None = None
    on_packet: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture, its place in presentation order, the wanted place that it serves, and whether parts are made up."""

    wanted: int
    place: int
    pixels: NDArray[np.uint8]
    damaged: bool


class DecodePass:
    """One run over a file that brings wanted frames, known by their place in presentation order.

    At first it decodes fast: threads work on several frames at once, and frames that nothing depends on are left out.
    At the first sign of damage it starts again, from the first frame still missing, with care: one frame at a time,
    nothing left out, damaged packets skipped and counted.

    Args:
        path: of the file.
        probe: what is known of it.
        index: of its frames, or of those of one part of its edit list.
        first: place of the first frame that may be brought.
        neighbours: for a frame that is lost, the nearest frame before the next wanted one may stand in.
        settings: how to decode.

    Attributes:
        packets_bad: packets the decoder refused.
        pictures_damaged: delivered pictures of which the decoder had to make up parts.
        pictures_fitted: pictures that had another size than the video's, and got borders.
        damage_met: fast decoding met damage, if only between the wanted frames.
        software_reason: why the wanted device wasn't used, as a sentence; empty where it was, or none was wanted.
    """

    def __init__(
        self,
        path: str,
        probe: Probe,
        index: FrameIndex,
        *,
        first: int,
        neighbours: bool,
        settings: DecodeSettings,
    ) -> None:
        self._path = path
        self._settings = settings
        self._index = index
        self._edit_lists = probe.edit_lists
        self._codec = probe.info.codec
        self._size = probe.info.width, probe.info.height
        self._pixels = probe.info.width * probe.info.height
        self._aspect = probe.aspect
        self._orientation = probe.orientation
        self._still = probe.info.picture
        self._neighbours = neighbours
        self._last_place = first - 1
        self.packets_bad = 0
        self.pictures_damaged = 0
        self.pictures_fitted = 0
        self.damage_met = False
        self.software_reason = ""

    def samples(self, places: Sequence[int]) -> Generator[Sample, None, None]:
        """Brings the frames at increasing ``places``; what can't be decoded is left out."""
        missing = deque(places)
        # Without timestamps frames are counted, and a count bears no loss.
        careful = self._index.stamps is None
        device = self._usable_device(careful=careful)
        while missing:
            try:
                yield from self._pass(missing, careful=careful, device=device)
            except LostError:
                if device is None:
                    careful, self.damage_met = True, not self._refreshes_gradually()
                else:
                    self.software_reason, device = f"{self._settings.hwaccel} failed at it: decoded in software", None
            else:
                return

    def _refreshes_gradually(self) -> bool:
        """Whether key frames aren't whole by themselves, but the pictures become so after them (intra refresh).

        Low-latency encoders do so. A decoder that enters there finds damage, though there is none.
        """
        keys = set(np.unique(self._index.entries)[:2].tolist())
        with open_video(self._path, edit_lists=self._edit_lists) as video:
            context = video.stream.codec_context
            context.options = {**context.options, "flags": "+output_corrupt"}
            for number, packet in enumerate(PacketReader(lambda: video.container.demux(video.stream))):
                if number in keys:
                    try:
                        frames = [*context.decode(packet), *context.decode(None)]
                    except MemoryError:
                        raise
                    except AV_ERRORS:
                        frames = []
                    context.flush_buffers()
                    if any(frame.pict_type != PictureType.I for frame in frames):
                        return True
                if number >= max(keys):
                    break
        return False

    def _usable_device(self, *, careful: bool) -> str | None:
        name = self._settings.hwaccel
        if name is None:
            return None
        with open_video(self._path, edit_lists=self._edit_lists) as video:
            reason = "its frames have no times" if careful else why_not(name, video.stream.codec_context.codec)
        if reason:
            self.software_reason = f"{name} can't be used ({reason}): decoded in software"
            return None
        return name

    def _pass(self, missing: deque[int], *, careful: bool, device: str | None) -> Generator[Sample, None, None]:
        """Decodes once through the file; takes from ``missing`` what it yields or, if ``careful``, knows to be lost.

        Raises:
            LostError: not ``careful``, and a packet was refused or a frame didn't come.
        """
        maker = PictureMaker(self._aspect, self._orientation, self._size)
        with closing(self._decoded(list(missing), careful=careful, device=device)) as frames:
            for wanted, place, frame in self._matched(frames, missing, careful=careful):
                try:
                    pixels = maker.make(frame)
                except MemoryError:
                    raise
                except AV_ERRORS:
                    self.packets_bad += 1
                    continue
                self._last_place = place
                # Decoders of still pictures fill up what is missing without a word, once they aren't told to stop.
                damaged = frame.is_corrupt or (careful and self._still)
                self.pictures_damaged += damaged
                self.pictures_fitted = self.pictures_fitted or maker.fitted
                yield Sample(wanted, place, pixels, damaged)
        if missing and not careful:
            raise LostError

    def _decoded(
        self, places: list[int], *, careful: bool, device: str | None
    ) -> Generator[tuple[int, VideoFrame], None, None]:
        """Decodes what the frames at ``places`` need, and yields these at least, as (place, frame).

        Raises:
            LostError: not ``careful``, and a packet was refused.
        """
        spans = gop_ranges(self._index, places, careful=careful)
        threads = self._settings.threads or threads_for(self._pixels, usable_cores())
        on_packet = self._settings.on_packet
        decoders = 1 if self._codec in _IN_ORDER else parallel_decoders(self._pixels, len(spans), len(places), threads)
        if decoders > 1 and not careful and device is None:
            yield from decode_parallel(
                self._path,
                self._index,
                spans,
                places,
                pixels=self._pixels,
                decoders=decoders,
                threads=threads // decoders,
                on_packet=on_packet,
                edit_lists=self._edit_lists,
            )
            return
        with self._opened(device) as video:
            threads = threads if device is None else 1
            decoder = RangeDecoder(video, self._index, places, careful=careful, threads=threads, on_packet=on_packet)
            try:
                for span in spans:
                    yield from decoder.frames(span)
            finally:
                self.packets_bad += decoder.refused
                if device is not None and not decodes_on_device(video.stream.codec_context):
                    self.software_reason = f"{device} doesn't suit its pictures: decoded in software"

    def _opened(self, device: str | None) -> OpenVideo:
        if device is None:
            return open_video(self._path, edit_lists=self._edit_lists)
        try:
            return open_video(self._path, device_of(device), edit_lists=self._edit_lists)
        except MediaError as error:  # its memory may be full by now
            raise LostError from error

    def _matched(
        self, frames: Iterator[tuple[int, VideoFrame]], missing: deque[int], *, careful: bool
    ) -> Generator[tuple[int, int, VideoFrame], None, None]:
        """Picks the wanted frames, as (wanted place, place, frame), from those that the decoder brings in order.

        For a frame that is damaged or doesn't come, a whole neighbour stands in where neighbours may and one comes
        before the next wanted frame; else the damaged frame is better than none.

        Raises:
            LostError: not ``careful``, and a frame didn't come.
        """
        spare: tuple[int, VideoFrame] | None = None  # whole, and before the wanted one
        damaged: tuple[int, VideoFrame] | None = None  # the wanted one itself, but damaged
        seen = self._last_place
        for place, frame in frames:
            if place <= seen:
                continue
            seen = place
            lost: int | None = None
            while missing and place > missing[0]:
                if not careful:
                    raise LostError
                lost = missing.popleft()
                if spare is not None:
                    yield lost, *spare
                    lost = spare = None
                elif damaged is not None and missing and place >= missing[0]:
                    yield lost, *damaged  # for this frame is wanted itself
                    lost = damaged = None
            if missing and place == missing[0]:
                if not (frame.is_corrupt and careful and self._neighbours):
                    yield missing.popleft(), place, frame
                    spare = None
                elif spare is not None:
                    yield missing.popleft(), *spare
                    spare = None
                else:
                    damaged = place, frame
            elif lost is not None and self._neighbours:
                yield (lost, *damaged) if damaged is not None and frame.is_corrupt else (lost, place, frame)
                damaged = None
            elif self._neighbours and careful and not frame.is_corrupt:
                spare = place, frame
            if not missing:
                return
        last = spare or damaged
        if last is not None and missing:
            yield missing.popleft(), *last
