"""What a file really holds: a pass over its packets, without decoding them.

Headers lie about duration and number of frames; packets don't. The pass gives every frame's true time, and the key
frame from which it can be decoded.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

StreamT = TypeVar("StreamT", bound="Stream")

#: Read errors in a row after which the rest of a file is given up.
_READ_ERRORS_LIMIT = 8

#: Rate assumed for a stream that has neither timestamps nor a rate.
_FALLBACK_RATE = Fraction(25)

#: A key frame this many frames before one already passed starts a new time line (two recordings joined).
_JUMP_BACK_FRAMES = 4

#: Formats whose timestamps are a running clock, as broadcast; a jump ahead is a new recording there, not a long still.
_CLOCK_FORMATS = frozenset({"mpegts", "mpeg"})

#: Seconds ahead that such a clock must jump. FFmpeg's own tool draws the line there, too (dts_delta_threshold).
_JUMP_AHEAD_S = 10.0

#: Share of distinct timestamps below which they are no time line.
_DISTINCT_SHARE = 0.9

#: Longest time that a last frame's packet is believed to stay on screen, in seconds.
_LONGEST_LAST_FRAME_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """The frames of one video stream.

    Attributes:
        times_s: presentation times on the player's clock, increasing, shape (N,).
        duration_s: when the last frame leaves the screen.
        stamps: timestamp (in the stream's time base) by which a decoded frame is recognised, distinct, shape (N,); None
            where timestamps are missing or wrong: then frames are counted as they come.
        packets: number, in the order of the file, of the packet that holds each frame, shape (N,).
        entries: number of the packet from which each frame can be decoded, shape (N,).
        leading: by packet number, whether its frame is shown before the key frame that precedes it in the file: it
            builds on pictures from before that, too (open GOP).
        measured_fps: frames a second over the whole stream; None where that tells nothing.
        end_position: byte in the file where the last packet ends; 0 where unknown.
        read_errors: how often reading failed.
        zero_s: the player's time zero on the clock of the file's streams; None where there is none.
        parts: number of the first frame of each part of an edit list that plays several, in order. Within one,
            frames come in the order of the file.
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
        """How many packets each frame comes after the one that it can be decoded from, shape (N,)."""
        return self.packets - self.entries

    def part(self, first: int, end: int) -> FrameIndex:
        """The index of the frames from number ``first`` up to ``end``."""
        chosen = slice(first, end)
        return replace(
            self,
            times_s=self.times_s[chosen],
            stamps=None if self.stamps is None else self.stamps[chosen],
            packets=self.packets[chosen],
            entries=self.entries[chosen],
            parts=(0,),
        )

    def edited(self, edits: Sequence[tuple[float, int]], tick: float, sound_start_s: float | None) -> FrameIndex:
        """The index of the frames that an edit list plays, at the times when it does.

        Args:
            edits: each part's length in seconds and its start in the media, in ticks; negative for an empty one.
            tick: seconds of a tick of the media.
            sound_start_s: when the sound starts, on the clock of the edit list; None if there is none.
        """
        assert self.stamps is not None
        media_s = self.stamps * tick
        times: list[NDArray[np.float64]] = []
        chosen: list[NDArray[np.int64]] = []
        parts: list[int] = []
        now_s = 0.0
        for length_s, start in edits:
            if start >= 0:
                # What is on the screen when a part starts may have begun before.
                first = max(0, int(np.searchsorted(self.stamps, start, side="right")) - 1)
                end = int(np.searchsorted(media_s, start * tick + length_s - tick / 2))
                parts.append(sum(map(len, chosen)))
                chosen.append(np.arange(first, max(first, end)))
                times.append(now_s + np.maximum(media_s[chosen[-1]] - start * tick, 0.0))
            now_s += length_s
        if not sum(map(len, chosen)):
            return self
        places, times_s = np.concatenate(chosen), np.concatenate(times)
        zero_s = float(min(times_s[:1].tolist() + ([] if sound_start_s is None else [max(0.0, sound_start_s)])))
        edited = replace(self.part(0, 0), times_s=times_s - zero_s, duration_s=now_s - zero_s, zero_s=zero_s)
        return replace(
            edited,
            stamps=self.stamps[places],
            packets=self.packets[places],
            entries=self.entries[places],
            parts=tuple(parts),
        )

    @property
    def packets_read(self) -> int:
        """How many packets there are, those of frames that aren't shown included."""
        return len(self.leading)


class PacketReader(Generic[StreamT]):
    """Iterates over the packets of a stream that hold data, past errors where the file can be read on.

    Args:
        demux: begins to read, or goes on after an error.
        on_packet: called for every packet, a sign of progress.

    Attributes:
        errors: how often reading failed.
    """

    def __init__(
        self, demux: Callable[[], Iterator[Packet[StreamT]]], on_packet: Callable[[], None] | None = None
    ) -> None:
        self._demux = demux
        self._on_packet = on_packet
        self.errors = 0

    def __iter__(self) -> Iterator[Packet[StreamT]]:
        in_a_row = 0
        while in_a_row <= _READ_ERRORS_LIMIT:
            try:
                for packet in self._demux():
                    if self._on_packet is not None:
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
    """Collects packets, in the order of the file, into a ``FrameIndex``."""

    def __init__(self) -> None:
        self._pts = array("q")
        self._dts = array("q")
        self._shown = bytearray()
        self._key = bytearray()
        self._pts_missing = False
        self._dts_missing = False
        self._last_duration = 0
        self._end_position = 0

    def add(self, packet: Packet[VideoStream]) -> None:
        """Takes note of the next packet."""
        pts, dts = packet.pts, packet.dts
        self._pts_missing |= pts is None
        self._dts_missing |= dts is None
        self._pts.append(pts or 0)
        self._dts.append(dts or 0)
        self._shown.append(not packet.is_discard)
        self._key.append(packet.is_keyframe)
        self._last_duration = packet.duration or self._last_duration
        if packet.pos is not None:
            self._end_position = max(self._end_position, packet.pos + packet.size)

    def build(
        self, stream: VideoStream, container_format: str, read_errors: int, sound_start_s: float | None = None
    ) -> FrameIndex:
        """Makes the index of everything that was added.

        Args:
            stream: that the packets came from.
            container_format: FFmpeg's name of it.
            read_errors: how often reading failed.
            sound_start_s: when the file's sound starts, on the clock of its streams; None if there is none.
        """
        tick = float(stream.time_base or Fraction(1, 1000))
        rate = stream.guessed_rate or stream.average_rate or _FALLBACK_RATE
        frame_s = float(1 / rate) if rate > 0 else float(1 / _FALLBACK_RATE)
        pts = np.frombuffer(self._pts, dtype=np.int64)
        key = np.frombuffer(self._key, dtype=np.bool_)
        numbers = np.flatnonzero(np.frombuffer(self._shown, dtype=np.bool_))
        stamps: NDArray[np.int64] | None = None
        line = pts
        first_s: float | None = None
        if self._pts_trusted(stream, container_format):
            ahead = _JUMP_AHEAD_S / tick if container_format in _CLOCK_FORMATS else np.inf
            line = _without_jumps(pts, key, max(1, round(frame_s / tick)), ahead)
            numbers, ticks = _in_presentation_order(numbers, line)
            times = (ticks - ticks[:1]) * tick
            if line is pts and len(ticks):
                first_s = int(ticks[0]) * tick
            stamps = pts[numbers] if line is pts or _distinct(pts[numbers], share=1) else None
        elif self._dts_trusted():
            ticks = np.sort(np.frombuffer(self._dts, dtype=np.int64)[numbers])
            times = (ticks - ticks[:1]) * tick
            first_s = int(ticks[0]) * tick if len(ticks) else None
        else:
            times = np.arange(len(numbers)) * frame_s
        entries, leading = _entries(line, key)
        zero_s = first_s
        if first_s is not None and sound_start_s is not None:
            # Players start with the earliest stream. What comes before a stream's own time zero is there to be cut off.
            zero_s = min(first_s, max(0.0, sound_start_s))
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

    def _pts_trusted(self, stream: VideoStream, container_format: str) -> bool:
        if self._pts_missing:
            return False
        # AVI stores no presentation times: for codecs that reorder frames FFmpeg passes on the decoding order.
        context = stream.codec_context
        if container_format == "avi" and context.name in {"h264", "hevc"} and context.has_b_frames:
            return False
        return _distinct(np.frombuffer(self._pts, dtype=np.int64))

    def _dts_trusted(self) -> bool:
        return not self._dts_missing and _distinct(np.frombuffer(self._dts, dtype=np.int64))


def _distinct(stamps: NDArray[np.int64], share: float = _DISTINCT_SHARE) -> bool:
    return len(np.unique(stamps)) >= share * len(stamps)


def _in_presentation_order(
    numbers: NDArray[np.int64], stamps: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorts shown packets by timestamp; of two with the same one the first stays."""
    ticks, first = np.unique(stamps[numbers], return_index=True)
    return numbers[first], ticks


def _without_jumps(
    pts: NDArray[np.int64], key: NDArray[np.bool_], frame_ticks: int, ahead_ticks: float
) -> NDArray[np.int64]:
    """Timestamps in file order, each recording that starts a new clock put after the one before; ``pts`` if none does.

    Args:
        pts: in the order of the file.
        key: which packets are key frames.
        frame_ticks: how long a frame lasts.
        ahead_ticks: a key frame that is farther ahead of everything before it starts a new clock.
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
    """For each packet the number of the key packet from which it can be decoded, and whether it is a leading one.

    That key packet is the last one at or before it, or else the file's start. A leading frame, shown before this key
    frame though it follows it in the file, needs the key frame before.
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
