"""Frame index of a video, built from its packets without decoding them, and the box structure of MP4 files.

Headers are often wrong about the duration and the number of frames; packets aren't. The index holds the true time of
every frame and the key frame from which it can be decoded. Boxes (ISO/IEC 14496-12) hold the edit lists. All lengths
and counts in a file are untrusted, so every read and every loop is bounded.
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

StreamT = TypeVar("StreamT", bound="Stream")

#: Consecutive read errors after which the rest of a file is skipped.
_READ_ERRORS_LIMIT = 8

#: Rate assumed for a stream that has neither timestamps nor a rate.
_FALLBACK_RATE = Fraction(25)

#: A key frame this many frame lengths before an earlier packet's time starts a new time line (joined recordings).
_JUMP_BACK_FRAMES = 4

#: Formats with timestamps from a running broadcast clock: a forward jump there is a new recording, not a long still.
_CLOCK_FORMATS = frozenset({"mpegts", "mpeg"})

#: Minimum forward jump of such a clock in seconds, the default of FFmpeg's command line (dts_delta_threshold).
_JUMP_AHEAD_S = 10.0

#: Timestamps are unusable if fewer than this share of them are distinct.
_DISTINCT_SHARE = 0.9

#: Longest plausible duration of the last frame in seconds; longer ones are replaced by the frame interval.
_LONGEST_LAST_FRAME_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Frames of one video stream in presentation order.

    Attributes:
        times_s: presentation times on the player's clock in seconds, increasing, shape (N,).
        duration_s: time at which the last frame leaves the screen.
        stamps: distinct timestamps in the stream's time base that identify decoded frames, shape (N,); None if
            timestamps are missing or wrong and decoded frames must be counted instead.
        packets: packet number (in file order) that holds each frame, shape (N,).
        entries: packet number from which decoding must start for each frame, shape (N,).
        leading: for each packet of the file, whether its frame is shown before the key frame that precedes it in the
            file; such a frame also depends on pictures before that key frame (open GOP).
        measured_fps: average frames per second of the whole stream; None if it can't be measured.
        end_position: byte offset at which the last packet ends; 0 if unknown.
        read_errors: number of failed reads.
        zero_s: the player's time zero on the clock of the file's streams; None if the streams have no clock.
        parts: index of the first frame of each part that an edit list plays, in playback order.
    """

    times_s: NDArray[np.float64]
    duration_s: float
    stamps: NDArray[np.int64] | None
    packets: NDArray[np.int64]
    entries: NDArray[np.int64]
    leading: NDArray[np.bool_]
    measured_fps: Fraction | None
    end_position: int
    read_errors: int
    zero_s: float | None
    parts: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def after_key(self) -> NDArray[np.int64]:
        """Number of packets from each frame's entry packet to its own, shape (N,); 0 for a key frame."""
        return self.packets - self.entries

    def part(self, first: int, end: int) -> FrameIndex:
        """Return the index of the frames ``first`` to ``end``, exclusive."""
        chosen = slice(first, end)
        return replace(
            self,
            times_s=self.times_s[chosen],
            stamps=None if self.stamps is None else self.stamps[chosen],
            packets=self.packets[chosen],
            entries=self.entries[chosen],
            parts=(0,),
        )

    def edited(
        self, edits: Sequence[tuple[float, int, float]], tick: float, others_start_s: float | None
    ) -> FrameIndex:
        """Return the index of the frames that an edit list plays, with their playback times.

        Args:
            edits: length in seconds, media start in ticks and rate of each edit; a negative start means an empty edit,
                the rate 0 a frame that stays.
            tick: length of a media tick in seconds.
            others_start_s: earliest start of the file's other streams on the clock of the edit list.
        """
        assert self.stamps is not None
        media_s = self.stamps * tick
        times: list[NDArray[np.float64]] = []
        chosen: list[NDArray[np.int64]] = []
        parts: list[int] = []
        now_s = 0.0
        for length_s, start, rate in edits:
            if start >= 0:
                # The frame on screen when a part starts may begin before the part.
                first = max(0, int(np.searchsorted(self.stamps, start, side="right")) - 1)
                end = int(np.searchsorted(media_s, start * tick + length_s * rate - tick / 2)) if rate else first + 1
                parts.append(sum(map(len, chosen)))
                chosen.append(np.arange(first, max(first, end)))
                times.append(now_s + np.maximum(media_s[chosen[-1]] - start * tick, 0.0) / (rate or 1.0))
            now_s += length_s
        if not sum(map(len, chosen)):
            return self
        places, times_s = np.concatenate(chosen), np.concatenate(times)
        zero_s = float(min(times_s[:1].tolist() + ([] if others_start_s is None else [max(0.0, others_start_s)])))
        return replace(
            self,
            times_s=times_s - zero_s,
            duration_s=now_s - zero_s,
            zero_s=zero_s,
            stamps=self.stamps[places],
            packets=self.packets[places],
            entries=self.entries[places],
            measured_fps=_rate(times_s) if any(edit[2] != 1 for edit in edits) else self.measured_fps,
            parts=tuple(parts),
        )


class PacketReader(Generic[StreamT]):
    """Iterates over the non-empty packets of a stream; ``demux`` starts reading, or resumes it after an error.

    Attributes:
        errors: number of failed reads.
    """

    def __init__(
        self, demux: Callable[[], Iterator[Packet[StreamT]]], on_packet: Callable[[], None] = lambda: None
    ) -> None:
        self._demux = demux
        self._on_packet = on_packet
        self.errors = 0

    def __iter__(self) -> Iterator[Packet[StreamT]]:
        in_a_row = 0
        while in_a_row <= _READ_ERRORS_LIMIT:
            try:
                for packet in self._demux():
                    self._on_packet()
                    if packet.size:
                        in_a_row = 0
                        yield packet
            except MemoryError:
                raise
            except (av.FFmpegError, OSError, ValueError):
                self.errors += 1
                in_a_row += 1
            else:
                return


class IndexBuilder:
    """Builds a ``FrameIndex`` from packets in file order."""

    def __init__(self) -> None:
        self._pts = array("q")
        self._dts = array("q")
        self._shown = bytearray()
        self._key = bytearray()
        self._pts_missing = self._dts_missing = False
        self._last_duration = self._end_position = 0

    def add(self, packet: Packet[VideoStream]) -> None:
        """Add the next packet."""
        self._pts_missing |= packet.pts is None
        self._dts_missing |= packet.dts is None
        self._pts.append(packet.pts or 0)
        self._dts.append(packet.dts or 0)
        self._shown.append(not packet.is_discard)
        self._key.append(packet.is_keyframe)
        self._last_duration = packet.duration or self._last_duration
        self._end_position = max(self._end_position, (packet.pos or 0) + packet.size)

    def build(
        self, stream: VideoStream, container_format: str, read_errors: int, others_start_s: float | None = None
    ) -> FrameIndex:
        """Build the index of the added packets.

        ``others_start_s`` is the earliest start of the file's other streams on their clock; None without others.
        """
        tick = float(stream.time_base or Fraction(1, 1000))
        rate = stream.guessed_rate or stream.average_rate or _FALLBACK_RATE
        frame_s = float(1 / rate) if rate > 0 else float(1 / _FALLBACK_RATE)
        pts, dts = (np.frombuffer(stamps, dtype=np.int64) for stamps in (self._pts, self._dts))
        key = np.frombuffer(self._key, dtype=np.bool_)
        numbers = np.flatnonzero(np.frombuffer(self._shown, dtype=np.bool_))
        # AVI stores no presentation times: FFmpeg passes on the decoding order for codecs that reorder frames.
        context = stream.codec_context
        reordered = container_format == "avi" and context.name in {"h264", "hevc"} and context.has_b_frames
        stamps: NDArray[np.int64] | None = None
        ticks: NDArray[np.int64] | None = None
        line = pts
        if not self._pts_missing and not reordered and _distinct(pts):
            ahead = _JUMP_AHEAD_S / tick if container_format in _CLOCK_FORMATS else np.inf
            line = _without_jumps(pts, key, max(1, round(frame_s / tick)), ahead)
            # In presentation order; the first packet of each timestamp counts.
            ticks, first = np.unique(line[numbers], return_index=True)
            numbers = numbers[first]
            stamps = pts[numbers] if line is pts or _distinct(pts[numbers], share=1) else None
        elif not self._dts_missing and _distinct(dts):
            ticks = np.sort(dts[numbers])
        times = np.arange(len(numbers)) * frame_s if ticks is None else (ticks - ticks[:1]) * tick
        # Joined recordings have no clock in common with other streams.
        first_s = int(ticks[0]) * tick if ticks is not None and len(ticks) and line is pts else None
        entries, leading = _entries(line, key)
        zero_s = first_s
        if first_s is not None and others_start_s is not None:
            # Players start with the earliest stream; they cut off samples before a stream's own time zero.
            zero_s = min(first_s, max(0.0, others_start_s))
            if container_format in _CLOCK_FORMATS and first_s - zero_s > _JUMP_AHEAD_S:
                zero_s = first_s
            times = times + (first_s - zero_s)
        last_s = self._last_duration * tick
        if not 0 < last_s <= _LONGEST_LAST_FRAME_S:
            last_s = frame_s
        return FrameIndex(
            times_s=times.astype(np.float64),
            duration_s=float(times[-1]) + last_s if len(times) else 0.0,
            stamps=stamps,
            packets=numbers,
            entries=entries[numbers],
            leading=leading,
            measured_fps=_rate(times),
            end_position=self._end_position,
            read_errors=read_errors,
            zero_s=zero_s,
        )


def _distinct(stamps: NDArray[np.int64], share: float = _DISTINCT_SHARE) -> bool:
    return len(np.unique(stamps)) >= share * len(stamps)


def _without_jumps(
    pts: NDArray[np.int64], key: NDArray[np.bool_], frame_ticks: int, ahead_ticks: float
) -> NDArray[np.int64]:
    """Join recordings with separate clocks into one time line; returns ``pts`` itself if there is only one clock.

    A key frame more than ``ahead_ticks`` after all earlier timestamps, or well before the latest, starts a new clock.
    """
    behind_ticks = _JUMP_BACK_FRAMES * frame_ticks
    change = pts[1:] - np.maximum.accumulate(pts)[:-1]
    if not np.any(key[1:] & ((change < -behind_ticks) | (change > ahead_ticks))):
        return pts
    line = pts.copy()
    shift, top = 0, int(pts[0])
    for number, (stamp, is_key) in enumerate(zip(pts.tolist(), key.tolist(), strict=True)):
        if is_key and not -behind_ticks <= stamp + shift - top <= ahead_ticks:
            shift = top + frame_ticks - stamp
        line[number] = stamp + shift
        top = max(top, stamp + shift)
    return line


def _entries(pts: NDArray[np.int64], key: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each packet the key packet from which decoding must start, and whether its frame is a leading one.

    Decoding starts at the last key packet up to it, or at the start of the file; for a leading frame one key packet
    earlier.
    """
    keys = np.concatenate(([0], np.flatnonzero(key)))
    place = np.cumsum(key)
    current = keys[place]
    leading = pts < pts[current] if len(pts) else np.zeros(0, dtype=np.bool_)
    return np.where(leading, keys[np.maximum(place - 1, 0)], current), leading


def _rate(times_s: NDArray[np.floating[Any]]) -> Fraction | None:
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return None
    return Fraction((len(times_s) - 1) / float(times_s[-1] - times_s[0])).limit_denominator(1001) or None


#: Upper limits on the boxes read from a file, the edits of one list, and the brands.
_MOST_BOXES = 4096
_MOST_EDITS = 1024
_MOST_BRANDS = 32
_MOST_BYTES = 8 + 20 * _MOST_EDITS
#: Container boxes on the path to an edit list.
_FOLDERS = {b"moov", b"trak", b"edts"}
_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"}

Edit = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """Box structure of an MP4 or QuickTime file.

    Attributes:
        boxes: types of the top-level boxes, in file order; consecutive boxes of one type are listed once.
        brands: brands of the file, the major brand first.
        edits: edit lists by track number; an edit is (length in movie time units, start in media time units, playback
            rate), with a start of -1 for an empty edit.
        movie_scale: movie time units per second; None if unknown.
    """

    boxes: tuple[str, ...]
    brands: tuple[str, ...]
    edits: dict[int, tuple[Edit, ...]]
    movie_scale: int | None


def read_layout(path: str | PathLike[str]) -> Mp4Layout | None:
    """Read the box structure of a file; returns None if the file doesn't consist of boxes."""
    boxes: list[str] = []
    brands: tuple[str, ...] = ()
    edits: dict[int, tuple[Edit, ...]] = {}
    track, scale = 0, None
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for depth, kind, start, end in islice(_walk(file, 0, size, 0), _MOST_BOXES):
            if not boxes and kind not in _FIRST:
                return None
            if depth == 0 and boxes[-1:] != [kind.decode("latin-1")]:
                boxes.append(kind.decode("latin-1"))
            if kind not in (b"ftyp", b"tkhd", b"elst", b"mvhd"):
                continue
            file.seek(start)
            content = file.read(max(0, min(end - start, _MOST_BYTES)))
            if kind == b"ftyp":
                # The major brand and the compatible ones; the minor version lies between them.
                parts = [content[place : place + 4].decode("latin-1") for place in range(0, len(content) - 3, 4)]
                brands = tuple(dict.fromkeys(parts[:1] + parts[2 : _MOST_BRANDS + 2]))
            elif kind == b"elst":
                edits[track] = _edits(content)
            else:  # both hold a number after two times, whose length depends on the version
                place = 20 if content[:1] == b"\x01" else 12
                number = int.from_bytes(content[place : place + 4], "big")
                track, scale = (number, scale) if kind == b"tkhd" else (track, number or None)
    return Mp4Layout(tuple(boxes), brands, edits, scale) if boxes else None


def _walk(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield (depth, type, content start, content end) of each box between two offsets, container boxes recursively."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        content = start + 8
        if length == 1 and len(head) == 16:
            length, content = struct.unpack(">Q", head[8:])[0], start + 16
        elif length == 0:
            length = end - start
        if length < content - start:
            return
        last = min(start + length, end)
        yield depth, kind, content, last
        if kind in _FOLDERS and depth < 3:
            yield from _walk(file, content, last, depth + 1)
        start = last


def _edits(content: bytes) -> tuple[Edit, ...]:
    if len(content) < 8:
        return ()
    layout = struct.Struct(">Qqi" if content[0] == 1 else ">Iii")
    count = min(int.from_bytes(content[4:8], "big"), _MOST_EDITS, (len(content) - 8) // layout.size)
    entries = [layout.unpack_from(content, 8 + number * layout.size) for number in range(count)]
    return tuple((length, start, rate / 65536) for length, start, rate in entries)
