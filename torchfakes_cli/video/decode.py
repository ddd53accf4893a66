"""Decodes selected frames of a file: only the GOP ranges they need, in parallel, with a careful mode for damaged files.

A decode pass starts in fast mode: frames that no other frame depends on are skipped, and several single-threaded
decoders work on separate ranges. Frame threads within one decoder would wait for each other's reference frames, which
takes 1.3 times the processor time on two cores and gains little when frames are skipped.

A hardware device, such as NVDEC for ``cuda``, decodes the same pictures as software, but in NV12 (interleaved color
planes), whose conversion to RGB differs by one level of 255 in some pixels.
"""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available

from torchfakes_cli.errors import MediaError
from torchfakes_cli.records import DecodeReport
from torchfakes_cli.video.convert import PictureMaker
from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.open import AV_ERRORS, OpenVideo, damage_ignored, open_video
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from av.codec.codec import Codec
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from torchfakes_cli.video.index import FrameIndex
    from torchfakes_cli.video.probing import Probe

    #: Decoded frames with their index in presentation order.
    Frames = Generator[tuple[int, VideoFrame], None, None]
    Wanted = Generator[tuple[int, int, VideoFrame], None, None]
    Samples = Generator[tuple[int, int, NDArray[np.uint8], bool], None, None]

#: Pictures above this many pixels (4K) are decoded one at a time, because each frame in progress holds several of them.
THREADS_PIXELS = 4096 * 2304
#: Up to this picture size, detecting faces once a second keeps one core as busy as decoding keeps another.
_SMALL_PIXELS = 960 * 540
#: FFmpeg warns about more threads in one decoder.
_MOST_THREADS = 16

#: Decoders that evaluate ``skip_frame`` for every packet; others read it once when they open.
_SKIPPING_DECODERS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
#: Decoders that work around encoder bugs once the first packet has named the encoder's version: x264 before core 151 in
#: 4:4:4 H.264 (as in FaceForensics++), and Xvid, DivX and old FFmpeg in MPEG-4.
_ADAPTING_DECODERS = frozenset({"h264", "mpeg4"})
#: Codecs whose pictures depend on the previous one even at packets marked as key frames; they need a single decoder.
_IN_ORDER = frozenset({"apng"})

#: Careful decoding starts this many key frames earlier: pictures refreshed in stripes are complete after that many.
_KEYS_BACK = 2

#: Maximum number of parallel decoders. Each reads all packets, which takes a second of processor time for two hours.
_MOST_DECODERS = 4
#: Maximum total pixels over all decoders, counting one picture each; a decoder holds up to 16 more.
_DECODERS_PIXELS = 4 * THREADS_PIXELS
#: Maximum total pixels, and number, of the pictures that a parallel decoder has decoded ahead.
_AHEAD_PIXELS = 8 * 1920 * 1080
_AHEAD = 32


class LostError(Exception):
    """Fast decoding found damage; decode again in careful mode from the first missing frame."""


@dataclass(slots=True)
class GopRange:
    """Range of packets that begins at a key frame: its first and last packet, and the indices of its wanted frames."""

    start: int
    end: int
    places: list[int]


def threads_for(pixels: int, cores: int) -> int:
    """Return the default number of decoding threads: one per core, or one fewer if a picture has few pixels."""
    return max(1, cores - 1) if pixels <= _SMALL_PIXELS else cores


def _device_of(name: str) -> HWAccel:
    kind, _, which = name.partition(":")
    return HWAccel(kind, device=which or None, allow_software_fallback=True)


def why_not(name: str, codec: Codec) -> str:
    """Return the reason why a device can't decode a codec, or an empty string if it can.

    ``name`` is FFmpeg's, such as ``cuda``, ``vaapi`` or ``videotoolbox``; ``cuda:1`` is the second CUDA device.
    """
    kind = name.partition(":")[0]
    known = hwdevices_available()
    if kind not in known:
        return f"this FFmpeg knows {', '.join(known) or 'none'}"
    if kind not in {config.device_type.name for config in codec.hardware_configs or () if config.is_supported}:
        return f"no decoder for {codec.name}"
    try:
        _device_of(name).create(codec)
    except AV_ERRORS:
        return "no such device can be opened"
    return ""


def gop_ranges(index: FrameIndex, places: Sequence[int], *, careful: bool) -> list[GopRange]:
    """Return the packet ranges, in order, that must be decoded for the frames at increasing indices ``places``.

    Each range begins at a key frame and ends with the last packet needed. Packets between ranges are read and dropped,
    not skipped by seeking: that takes 0.6 s for two hours at 480p and works in every container. If ``careful``, ranges
    begin some key frames earlier, because with intra refresh a picture becomes complete only over several of them.
    """
    if index.stamps is None:
        return [GopRange(0, sys.maxsize, list(places))]
    entries = index.entries
    if careful:
        distinct = np.unique(entries)
        entries = distinct[np.maximum(np.searchsorted(distinct, entries) - _KEYS_BACK, 0)]
    ranges: list[GopRange] = []
    for place in places:
        start, end = int(entries[place]), int(index.packets[place])
        if ranges and start <= ranges[-1].end:
            ranges[-1].end = max(ranges[-1].end, end)
            ranges[-1].places.append(place)
        else:
            ranges.append(GopRange(start, end, [place]))
    return ranges


class RangeDecoder:
    """Decodes ranges of one open file in order.

    If ``careful``, it decodes every packet, with one thread, and skips packets that the decoder rejects; otherwise it
    skips unneeded frames that no other frame depends on.

    Attributes:
        refused: number of packets that the decoder rejected.
    """

    def __init__(
        self, video: OpenVideo, index: FrameIndex, careful: bool, threads: int, on_packet: Callable[[], None]
    ) -> None:
        self.refused = 0
        self._index = index
        self._careful = careful
        self._context = context = video.stream.codec_context
        small = context.width * context.height <= THREADS_PIXELS
        context.thread_type = "AUTO" if small and not careful else "SLICE"
        # The H.264 decoder's error concealment depends on the number of threads.
        context.thread_count = 1 if careful else min(threads, _MOST_THREADS)
        if not careful and not index.leading.any():
            # Error concealment isn't deterministic with threads, so damage raises an error instead. Streams with open
            # GOPs are exempt: starting at one of their key frames would raise an error as well.
            context.options = {**context.options, "err_detect": "explode"}
        if careful:
            # Some decoders (HEVC) withhold damaged pictures by default; intact ones are preferred later.
            context.options = {**context.options, "flags": "+output_corrupt"}
        self._skipping = context.name in _SKIPPING_DECODERS and not careful
        stamps = index.stamps
        self._places = None if stamps is None else dict(zip(stamps.tolist(), range(len(stamps)), strict=True))
        self._counted = 0
        self._packets = enumerate(PacketReader(lambda: video.container.demux(video.stream), on_packet))

    @property
    def on_device(self) -> bool:
        """Whether a device decodes; decoders fall back to software for pictures that their device doesn't support."""
        configs = self._context.codec.hardware_configs or ()
        return self._context.pix_fmt in {config.format.name for config in configs if config.format is not None}

    def frames(self, span: GopRange) -> Frames:
        """Decode the next range and yield (frame index, frame) in presentation order.

        Raises LostError at a rejected packet or a damaged picture, unless ``careful``.
        """
        entering = not self._careful
        needed = {int(self._index.packets[place]) for place in span.places}
        for number, packet in self._packets:
            if number < span.start:
                # Parameters in the middle of a stream hold for all later packets.
                if (number == 0 and self._context.name in _ADAPTING_DECODERS) or packet.has_sidedata("new_extradata"):
                    for each in (packet, None):
                        with damage_ignored():
                            self._context.decode(each)
                    self._context.flush_buffers()
                continue
            entering &= number == span.start or not packet.is_keyframe
            if entering and self._index.leading[number]:
                continue
            if self._skipping:
                self._context.skip_frame = "DEFAULT" if number in needed else "NONREF"
            yield from self._identified(packet)
            if number >= span.end:
                break
        yield from self._identified(None)
        self._context.flush_buffers()

    def _identified(self, packet: Packet[VideoStream] | None) -> Frames:
        """Yield the frames that a packet completes, by timestamp or counted; None drains the decoder."""
        try:
            frames = self._context.decode(packet)
        except av.EOFError:
            return
        except AV_ERRORS as error:
            if not self._careful:
                raise LostError from error
            if isinstance(error, MemoryError):  # careful mode already uses the least memory
                raise
            self.refused += 1
            self._counted += 1
            return
        for frame in frames:
            if frame.is_corrupt and not self._careful:
                raise LostError
            place: int | None = self._counted
            self._counted += 1
            if self._places is not None:
                place = None if frame.pts is None else self._places.get(frame.pts)
            if place is not None:
                yield place, frame


class DecodePass:
    """Decodes the wanted frames of a file, identified by their index in presentation order, and counts what is damaged.

    Decoding starts in fast mode, with threads and without unneeded frames. At the first sign of damage it restarts at
    the first missing frame in careful mode: one frame at a time, every packet decoded, damaged packets skipped and
    counted.

    Args:
        probe: result of probing the file.
        neighbors: whether a lost frame may be replaced by the nearest intact frame before the next wanted one.
        threads: as for ``VideoReader``, also ``hwaccel`` and ``on_packet``.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        neighbors: bool,
        threads: int | None,
        hwaccel: str | None,
        on_packet: Callable[[], None],
    ) -> None:
        info = probe.info
        self._probe = probe
        self._pixels = info.width * info.height
        self._maker = PictureMaker(probe.aspect, probe.orientation, (info.width, info.height))
        self._neighbors = neighbors
        self._threads = threads or threads_for(self._pixels, usable_cores())
        self._on_packet = on_packet
        self._packets_bad = self._damaged = self._replaced = 0
        self._device = hwaccel
        self._software_reason = ""
        if hwaccel is not None:
            with self._opened(None) as video:
                counted = probe.index.stamps is None
                reason = "its frames have no times" if counted else why_not(hwaccel, video.stream.codec_context.codec)
            if reason:
                self._use_software(f"{hwaccel} can't be used ({reason})")

    def samples(self, index: FrameIndex, places: Sequence[int], first: int) -> Samples:
        """Decode frames of the file, or of one part of an edit list; frames that can't be decoded are left out.

        Args:
            index: index of the frames.
            places: increasing indices of the wanted frames.
            first: index of the first frame that may replace a lost one.

        Yields:
            The index of the wanted frame and of the decoded one (a neighbor if the wanted one was lost), its H×W×3
            uint8 RGB pixels, and whether the decoder concealed errors in it.
        """
        self._index, self._last_place = index, first - 1
        missing = deque(places)
        # Without timestamps frames are identified by counting, which fails if a frame is lost.
        careful = index.stamps is None
        while missing:
            try:
                yield from self._pass(missing, careful=careful)
            except LostError:
                careful = self._device is None
                if self._device is not None:
                    self._use_software(f"{self._device} failed at it")
            else:
                return

    def report(self, wanted: int, delivered: int) -> DecodeReport:
        """Report the damage so far, given the numbers of frames."""
        warnings = []
        if delivered < wanted:
            warnings.append(f"partial: {delivered} of {wanted} frames")
        if self._packets_bad:
            warnings.append(f"damaged packets skipped: {self._packets_bad}")
        if self._damaged:
            warnings.append(f"damaged pictures among the frames: {self._damaged} of {delivered}")
        if self._replaced and not warnings:
            warnings.append(f"damaged pictures replaced by their neighbors: {self._replaced}")
        if self._software_reason:
            warnings.append(self._software_reason)
        if self._maker.fitted:
            warnings.append("the picture changes its size: pictures of other sizes than the video's have black borders")
        return DecodeReport(wanted, delivered, self._packets_bad, tuple(warnings))

    def _use_software(self, reason: str) -> None:
        self._device, self._software_reason = None, f"{reason}: decoded in software"

    def _pass(self, missing: deque[int], *, careful: bool) -> Samples:
        """Decode the file once; removes delivered frames from ``missing`` and, if ``careful``, lost ones as well."""
        with closing(self._decoded(list(missing), careful=careful)) as frames:
            for wanted, place, frame in self._matched(frames, missing, careful=careful):
                try:
                    pixels = self._maker.make(frame)
                except MemoryError:
                    raise
                except AV_ERRORS:
                    self._packets_bad += 1
                    continue
                self._last_place = place
                self._replaced += place != wanted
                # Decoders of still pictures conceal errors silently unless damage raises an error.
                damaged = frame.is_corrupt or (careful and self._probe.info.picture)
                self._damaged += damaged
                yield wanted, place, pixels, damaged
        if missing and not careful:
            raise LostError

    def _decoded(self, places: list[int], *, careful: bool) -> Frames:
        """Decode the ranges of the frames at ``places``; yields at least these as (frame index, frame)."""
        ranges = gop_ranges(self._index, places, careful=careful)
        # Number of ranges that each parallel decoder may decode ahead; without any, the threads of one are faster.
        ahead = min(_AHEAD, max(1, _AHEAD_PIXELS // self._pixels)) // max(len(span.places) for span in ranges)
        decoders = min(self._threads, len(ranges), _MOST_DECODERS, _DECODERS_PIXELS // self._pixels)
        one = careful or self._device is not None or self._probe.info.codec in _IN_ORDER
        if decoders > 1 and ahead and not one and self._pixels <= THREADS_PIXELS:
            yield from self._parallel(ranges, decoders, ahead)
            return
        with self._opened(self._device) as video:
            threads = self._threads if self._device is None else 1
            decoder = RangeDecoder(video, self._index, careful, threads, self._on_packet)
            try:
                for span in ranges:
                    yield from decoder.frames(span)
            finally:
                self._packets_bad += decoder.refused
                if self._device is not None and not decoder.on_device:
                    self._use_software(f"{self._device} doesn't suit its pictures")

    def _opened(self, device: str | None) -> OpenVideo:
        hwaccel = None if device is None else _device_of(device)
        try:
            return open_video(self._probe.info.path, hwaccel, edit_lists=self._probe.edit_lists)
        except MediaError as error:
            if device is None:
                raise
            raise LostError from error  # the device's memory may have filled up since it was checked

    def _parallel(self, ranges: Sequence[GopRange], decoders: int, ahead: int) -> Frames:
        """Decode the wanted frames in fast mode with several decoders, each in a thread; yields them in order."""
        stop = Event()

        def decode(own: Sequence[GopRange]) -> Generator[list[tuple[int, VideoFrame]], None, None]:
            with self._opened(None) as video:
                decoder = RangeDecoder(video, self._index, False, self._threads // decoders, self._on_packet)
                for span in own:
                    found, wanted = [], frozenset(span.places)
                    for place, frame in decoder.frames(span):
                        if stop.is_set():
                            return
                        if place in wanted:
                            found.append((place, frame))
                    yield found

        with ExitStack() as stack:
            work = [stack.enter_context(closing(decode(ranges[number::decoders]))) for number in range(decoders)]
            pools = [stack.enter_context(ThreadPoolExecutor(1, "decode")) for _ in work]
            stack.callback(stop.set)
            waiting: deque[Future[list[tuple[int, VideoFrame]]]] = deque()
            for number in range(len(ranges)):
                waiting.append(pools[number % decoders].submit(next, work[number % decoders]))
                if len(waiting) == decoders * ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _matched(self, frames: Frames, missing: deque[int], *, careful: bool) -> Wanted:
        """Select the wanted frames from decoded frames in order; yields (wanted index, frame index, frame).

        A damaged or missing frame is replaced by an intact neighbor if neighbors are allowed and one comes before
        the next wanted frame; otherwise the damaged frame is used.
        """
        # The last intact frame before the wanted one, or the wanted one itself if it is damaged.
        substitute: tuple[int, VideoFrame] | None = None
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
                # The current frame replaces the lost one only if it is intact and isn't wanted itself.
                usable = not frame.is_corrupt and not (missing and place >= missing[0])
                if substitute is not None and not (substitute[1].is_corrupt and usable):
                    yield lost, *substitute
                    lost = substitute = None
            if missing and place == missing[0]:
                if frame.is_corrupt and self._neighbors and substitute is None:
                    substitute = place, frame
                else:
                    yield missing.popleft(), *(substitute if frame.is_corrupt and substitute else (place, frame))
                    substitute = None
            elif lost is not None and self._neighbors:
                yield lost, place, frame
                substitute = None
            elif self._neighbors and careful and not frame.is_corrupt:
                substitute = place, frame
            if not missing:
                return
        if substitute is not None and missing:
            yield missing.popleft(), *substitute
