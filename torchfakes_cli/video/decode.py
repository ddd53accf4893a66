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
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import Full, Queue
from threading import Event
from typing import TYPE_CHECKING

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available

from torchfakes_cli.errors import MediaError
from torchfakes_cli.video.convert import PictureMaker
from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.open import AV_ERRORS, OpenVideo, open_video
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from av.codec.codec import Codec
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from torchfakes_cli.video.index import FrameIndex
    from torchfakes_cli.video.probing import Probe

    #: Numbers of the first and the last packet of a range.
    GopRange = tuple[int, int]
    #: Decoded frames with their index in presentation order.
    Frames = Generator[tuple[int, VideoFrame], None, None]
    Wanted = Generator[tuple[int, int, VideoFrame], None, None]
    Samples = Generator[tuple[int, int, NDArray[np.uint8], bool], None, None]

    # (frame index, frame), an error, or None at the end of a range.
    Found = Queue[tuple[int, VideoFrame] | BaseException | None]

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
#: Maximum total pixels, and number, of the decoded pictures queued per decoder.
_WAITING_PIXELS = 8 * 1920 * 1080
_WAITING = 32
# Interval in seconds at which a blocked thread checks whether it should stop.
_LOOK_UP_S = 0.1


class LostError(Exception):
    """Fast decoding found damage; decode again in careful mode from the first missing frame."""


def threads_for(pixels: int, cores: int) -> int:
    """Returns the default number of decoding threads: one per core, or one fewer for small pictures.

    Args:
        pixels: number of pixels in a picture.
        cores: number of usable cores, which decoding shares with face detection and scoring.
    """
    return max(1, cores - 1) if pixels <= _SMALL_PIXELS else cores


def device_of(name: str) -> HWAccel:
    """Returns PyAV's configuration for a device; decoders may fall back to software.

    Args:
        name: FFmpeg's device name, such as ``cuda``, ``vaapi`` or ``videotoolbox``; ``cuda:1`` for the second CUDA
            device.
    """
    kind, _, which = name.partition(":")
    return HWAccel(kind, device=which or None, allow_software_fallback=True)


def why_not(name: str, codec: Codec) -> str:
    """Returns the reason why a device can't decode a codec, or an empty string if it can.

    Args:
        name: device name, as for ``device_of``.
        codec: decoder to run on the device.
    """
    kind = name.partition(":")[0]
    known = hwdevices_available()
    if kind not in known:
        return f"this FFmpeg knows {', '.join(known) or 'none'}"
    if kind not in {config.device_type.name for config in codec.hardware_configs or () if config.is_supported}:
        return f"no decoder for {codec.name}"
    try:
        device_of(name).create(codec)
    except AV_ERRORS:
        return "no such device can be opened"
    return ""


def _decodes_on_device(context: VideoCodecContext) -> bool:
    """Returns whether a decoder in use runs on its device; it falls back to software for unsupported pictures."""
    formats = {config.format.name for config in context.codec.hardware_configs or () if config.format is not None}
    return context.pix_fmt in formats


def gop_ranges(index: FrameIndex, places: Sequence[int], *, careful: bool) -> list[GopRange]:
    """Returns the packet ranges, in order, that must be decoded for the frames at increasing indices ``places``.

    Each range begins at a key frame and ends with the last packet needed. Packets between ranges are read and dropped,
    not skipped by seeking: that takes 0.6 s for two hours at 480p and works in every container. If ``careful``, ranges
    begin some key frames earlier, because with intra refresh a picture becomes complete only over several of them.
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
    """Decodes ranges of one open file in order.

    Args:
        video: open file from which no packet has been read.
        index: frame index of the file.
        places: indices of the wanted frames; unless ``careful``, unneeded non-reference frames are skipped.
        careful: decode every packet, with one thread, and skip and count packets that the decoder rejects.
        threads: number of decoder threads.
        on_packet: callback for every packet that is read.

    Attributes:
        refused: number of packets that the decoder rejected.
    """

    def __init__(
        self,
        video: OpenVideo,
        index: FrameIndex,
        places: Sequence[int],
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
        self._needed = {int(index.packets[place]) for place in places}
        stamps = index.stamps
        self._places = None if stamps is None else dict(zip(stamps.tolist(), range(len(stamps)), strict=True))
        self._counted = 0
        self._packets = enumerate(PacketReader(lambda: video.container.demux(video.stream), on_packet))

    def frames(self, span: GopRange) -> Frames:
        """Decodes the next range and yields (frame index, frame) in presentation order.

        Raises:
            LostError: a packet was rejected or a picture is damaged, unless ``careful``.
        """
        start, end = span
        entering = not self._careful
        for number, packet in self._packets:
            if number < start:
                # Parameters in the middle of a stream hold for all later packets.
                if (number == 0 and self._context.name in _ADAPTING_DECODERS) or packet.has_sidedata("new_extradata"):
                    self._prepare(packet)
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

    def _prepare(self, packet: Packet[VideoStream]) -> None:
        """Decodes a packet for what the decoder learns from it and keeps: the encoder's version, parameter sets."""
        for each in (packet, None):
            try:
                self._context.decode(each)
            except MemoryError:
                raise
            except AV_ERRORS:
                pass
        self._context.flush_buffers()

    def _identified(self, packet: Packet[VideoStream] | None) -> Frames:
        """Yields the frames that a packet completes, by timestamp or counted; None drains the decoder."""
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
    """Decodes the wanted frames of a file, identified by their index in presentation order.

    Decoding starts in fast mode, with threads and without unneeded frames. At the first sign of damage it restarts at
    the first missing frame in careful mode: one frame at a time, every packet decoded, damaged packets skipped and
    counted.

    Args:
        path: path of the file.
        probe: result of probing the file.
        index: index of the file's frames, or of the frames of one edit list part.
        first: index of the first frame that may be delivered.
        neighbors: whether a lost frame may be replaced by the nearest intact frame before the next wanted one.
        threads: maximum number of threads; None for the default of ``threads_for``.
        hwaccel: FFmpeg's name of a device to decode on if possible; None for software.
        on_packet: callback for every packet that is read, as a sign of progress; called from several threads.

    Attributes:
        packets_bad: number of packets that the decoder rejected.
        pictures_damaged: number of delivered pictures with concealed errors.
        pictures_replaced: number of lost or damaged pictures that were replaced by neighbors.
        pictures_fitted: number of pictures padded because their size differed from the video's.
        software_reason: sentence on why the requested device wasn't used; empty if it was used or none was requested.
    """

    def __init__(
        self,
        path: str,
        probe: Probe,
        index: FrameIndex,
        *,
        first: int,
        neighbors: bool,
        threads: int | None,
        hwaccel: str | None,
        on_packet: Callable[[], None] | None,
    ) -> None:
        self._path, self._probe, self._index = path, probe, index
        self._pixels = probe.info.width * probe.info.height
        self._neighbors = neighbors
        self._threads = threads or threads_for(self._pixels, usable_cores())
        # Queue length of each parallel decoder in pictures.
        self._waiting = min(_WAITING, max(1, _WAITING_PIXELS // max(1, self._pixels)))
        self._hwaccel = hwaccel
        self._on_packet = on_packet
        self._last_place = first - 1
        self.packets_bad = self.pictures_damaged = self.pictures_replaced = self.pictures_fitted = 0
        self.software_reason = ""

    def samples(self, places: Sequence[int]) -> Samples:
        """Decodes the frames at increasing indices ``places``; frames that can't be decoded are left out.

        Yields:
            The index of the wanted frame, the index of the decoded one (a neighbor if the wanted one was lost), its
            H×W×3 uint8 RGB pixels, and whether the decoder concealed errors in it.
        """
        missing = deque(places)
        # Without timestamps frames are identified by counting, which fails if a frame is lost.
        careful = self._index.stamps is None
        device = self._usable_device(careful=careful)
        while missing:
            try:
                yield from self._pass(missing, careful=careful, device=device)
            except LostError:
                if device is None:
                    careful = True
                else:
                    self.software_reason, device = f"{self._hwaccel} failed at it: decoded in software", None
            else:
                return

    def _usable_device(self, *, careful: bool) -> str | None:
        name = self._hwaccel
        if name is None:
            return None
        with self._opened(None) as video:
            reason = "its frames have no times" if careful else why_not(name, video.stream.codec_context.codec)
        if reason:
            self.software_reason = f"{name} can't be used ({reason}): decoded in software"
            return None
        return name

    def _pass(self, missing: deque[int], *, careful: bool, device: str | None) -> Samples:
        """Decodes the file once; removes delivered frames from ``missing`` and, if ``careful``, lost ones as well.

        Raises:
            LostError: a packet was rejected or a frame is missing, unless ``careful``.
        """
        info = self._probe.info
        maker = PictureMaker(self._probe.aspect, self._probe.orientation, (info.width, info.height))
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
                self.pictures_replaced += place != wanted
                # Decoders of still pictures conceal errors silently unless damage raises an error.
                damaged = frame.is_corrupt or (careful and info.picture)
                self.pictures_damaged += damaged
                self.pictures_fitted = self.pictures_fitted or maker.fitted
                yield wanted, place, pixels, damaged
        if missing and not careful:
            raise LostError

    def _decoded(self, places: list[int], *, careful: bool, device: str | None) -> Frames:
        """Decodes the ranges of the frames at ``places``; yields at least these as (frame index, frame).

        Raises:
            LostError: a packet was rejected, unless ``careful``.
        """
        spans = gop_ranges(self._index, places, careful=careful)
        decoders = 1 if careful or device is not None else self._decoders(len(spans), len(places))
        if decoders > 1:
            yield from self._parallel(spans, places, decoders)
            return
        with self._opened(device) as video:
            threads = self._threads if device is None else 1
            decoder = RangeDecoder(video, self._index, places, careful, threads, self._on_packet)
            try:
                for span in spans:
                    yield from decoder.frames(span)
            finally:
                self.packets_bad += decoder.refused
                if device is not None and not _decodes_on_device(video.stream.codec_context):
                    self.software_reason = f"{device} doesn't suit its pictures: decoded in software"

    def _opened(self, device: str | None) -> OpenVideo:
        if device is None:
            return open_video(self._path, edit_lists=self._probe.edit_lists)
        try:
            return open_video(self._path, device_of(device), edit_lists=self._probe.edit_lists)
        except MediaError as error:  # the device's memory may have filled up since it was checked
            raise LostError from error

    def _decoders(self, spans: int, wanted: int) -> int:
        """Returns the number of decoders to use; if the frames exceed the queues, the threads of one are faster."""
        if self._probe.info.codec in _IN_ORDER or self._pixels > THREADS_PIXELS or wanted > spans * self._waiting:
            return 1
        return max(1, min(self._threads, spans, _MOST_DECODERS, _DECODERS_PIXELS // max(1, self._pixels)))

    def _parallel(self, spans: Sequence[GopRange], places: Sequence[int], decoders: int) -> Frames:
        """Decodes the frames at ``places`` in fast mode with several decoders; yields (frame index, frame) in order.

        Raises:
            LostError: a packet was rejected or a picture is damaged; raised after the preceding frames were yielded.
        """
        wanted = frozenset(places)
        stop = Event()
        queues: list[Found] = [Queue(self._waiting) for _ in range(decoders)]

        def work(found: Found, own: Sequence[GopRange]) -> None:
            try:
                with self._opened(None) as video:
                    threads = self._threads // decoders
                    decoder = RangeDecoder(video, self._index, places, False, threads, self._on_packet)
                    for span in own:
                        for place, frame in decoder.frames(span):
                            if stop.is_set():
                                return
                            if place in wanted:
                                put((place, frame), found)
                        put(None, found)
            except BaseException as error:  # noqa: BLE001 - re-raised in the consumer
                put(error, found)

        def put(item: tuple[int, VideoFrame] | BaseException | None, found: Found) -> None:
            while not stop.is_set():
                try:
                    found.put(item, timeout=_LOOK_UP_S)
                except Full:
                    continue
                return

        with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
            try:
                for number, found in enumerate(queues):
                    pool.submit(work, found, spans[number::decoders])
                for number in range(len(spans)):
                    yield from _taken(queues[number % decoders])
            finally:
                stop.set()

    def _matched(self, frames: Frames, missing: deque[int], *, careful: bool) -> Wanted:
        """Selects the wanted frames from decoded frames in order; yields (wanted index, frame index, frame).

        A damaged or missing frame is replaced by an intact neighbor if neighbors are allowed and one comes before
        the next wanted frame; otherwise the damaged frame is used.

        Raises:
            LostError: a frame is missing, unless ``careful``.
        """
        spare: tuple[int, VideoFrame] | None = None  # the last intact frame before the wanted one
        damaged: tuple[int, VideoFrame] | None = None  # the wanted frame itself, if damaged
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
                    yield lost, *damaged  # the current frame is wanted itself, so it can't replace the lost one
                    lost = damaged = None
            if missing and place == missing[0]:
                if not (frame.is_corrupt and careful and self._neighbors):
                    yield missing.popleft(), place, frame
                    spare = None
                elif spare is not None:
                    yield missing.popleft(), *spare
                    spare = None
                else:
                    damaged = place, frame
            elif lost is not None and self._neighbors:
                yield (lost, *damaged) if damaged is not None and frame.is_corrupt else (lost, place, frame)
                damaged = None
            elif self._neighbors and careful and not frame.is_corrupt:
                spare = place, frame
            if not missing:
                return
        last = spare or damaged
        if last is not None and missing:
            yield missing.popleft(), *last


def _taken(found: Found) -> Frames:
    """Yields the frames of one range from a decoder's queue."""
    while (item := found.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
