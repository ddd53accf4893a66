"""Probes a file before decoding: geometry, frame rate, true duration, warnings."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.stream import Stream

from torchfakes_cli.errors import DecodeError, MediaError, UnsupportedMediaError
from torchfakes_cli.records import VideoInfo
from torchfakes_cli.video.convert import Orientation, Sizes, square_size
from torchfakes_cli.video.index import FrameIndex, IndexBuilder, PacketReader, read_layout
from torchfakes_cli.video.open import OpenVideo, damage_ignored, is_shown, open_video
from torchfakes_cli.video.options import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

#: HDR transfer functions (ITU-T H.273), by number.
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

#: Minimum share of a file up to its last video packet in an intact file; subtitles, sound or an index may follow.
_READ_SHARE = 0.9

#: A picture shown for more than this many seconds and for most of the video suggests a broken timestamp.
_LONG_STILL_S = 60.0

#: A video ends early if more of its declared duration is missing than these limits, in seconds and as a share.
_EARLY_END_S = 0.5
_EARLY_END_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Probe:
    """Result of probing a file.

    Attributes:
        info: metadata for the user.
        index: frame index.
        aspect: width ÷ height of a stored pixel.
        orientation: orientation of the stored pictures.
        edit_lists: whether FFmpeg applies the edit lists; otherwise the index has applied them.
    """

    info: VideoInfo
    index: FrameIndex
    aspect: Fraction | None
    orientation: Orientation
    edit_lists: bool = True


def examine(path: str | PathLike[str], on_packet: Callable[[], None] = lambda: None) -> Probe:
    """Probe a video: decode its first frame and index the rest; arguments and errors as for ``VideoReader``."""
    with ExitStack() as stack:
        video = stack.enter_context(open_video(path))
        others_start_s = _others_start_s(video)
        edits = _own_edits(path) if video.container.format.name.startswith("mov") else {}
        if edits:
            video = stack.enter_context(open_video(path, edit_lists=False))
        packets = PacketReader(lambda: video.container.demux(video.stream), on_packet)
        builder = IndexBuilder()
        sizes = Sizes(video.stream)
        first: VideoFrame | None = None
        for packet in packets:
            if packet.has_sidedata("encryption_info"):
                raise UnsupportedMediaError("encrypted", path=path, advice="Only videos without copy protection work.")
            builder.add(packet)
            sizes.add(packet)
            if first is None:
                first = _first_frame(video, packet)
            if video.picture:
                break  # further pictures in the file, such as previews, aren't shown
        first = first or _first_frame(video, None)
        index = builder.build(video.stream, video.container.format.name, packets.errors, others_start_s)
        if edits and index.stamps is not None and (own := edits.get(video.stream.id)):
            index = index.edited(own, float(video.stream.time_base or 0), others_start_s)
        if first is None or not len(index):
            raise _undecodable(path, video, index)
        orientation = Orientation.of_picture(path) if video.picture else Orientation.of(first)
        stream, aspect = video.stream, video.stream.sample_aspect_ratio
        width, height = orientation.size(square_size(*sizes.largest(first.width, first.height), aspect))
        info = VideoInfo(
            path=os.fspath(path),
            container=video.format_name,
            codec=video.converted or stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            fps=None if video.picture else _true_rate(stream.average_rate or stream.guessed_rate, index),
            duration_s=None if video.picture else index.duration_s,
            frame_count=len(index),
            rotation=orientation.clockwise,
            warnings=() if video.picture else tuple(_warnings(path, video, first, index)),
            picture=video.picture,
        )
        return Probe(info, index, aspect, orientation, edit_lists=not edits)


def _own_edits(path: str | PathLike[str]) -> dict[int, list[tuple[float, int, float]]]:
    """Return the edit lists of a file by track, in seconds, ticks and rates; empty if FFmpeg applies them correctly.

    With several parts FFmpeg's times are off by up to a key frame interval, and it ignores rates.
    """
    layout = read_layout(path)
    if layout is None or layout.movie_scale is None or "moof" in layout.boxes:
        return {}
    scale = layout.movie_scale
    lists = {}
    for track, edits in layout.edits.items():
        several = sum(start >= 0 and length > 0 for length, start, _ in edits) > 1
        # A rate of 0 in the only part is a mistake of a writer.
        lists[track] = [
            (length / scale, start, rate if rate > 0 or (several and not rate) else 1.0)
            for length, start, rate in edits
            if length
        ]
    wrong = any(
        len(edits) > 1 + (edits[0][1] < 0) or any(rate != 1 for _, _, rate in edits)
        for edits in lists.values()
        if edits
    )
    return lists if wrong else {}


def _others_start_s(video: OpenVideo) -> float | None:
    """Return the start of the earliest sound or other video on the clock of the streams; None without any."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in video.container.streams
        if stream.type == "audio" or (stream.type == "video" and stream is not video.stream and is_shown(stream))
        if stream.start_time is not None and stream.time_base is not None
    ]
    return min(starts, default=None)


def _first_frame(video: OpenVideo, packet: Packet[VideoStream] | None) -> VideoFrame | None:
    frames: list[VideoFrame] = []
    with damage_ignored():
        frames = video.stream.codec_context.decode(packet)
    return frames[0] if frames else None


def _undecodable(path: str | PathLike[str], video: OpenVideo, index: FrameIndex) -> MediaError:
    """Return the error for a file without a decodable frame."""
    limit = f"{MAX_PIXELS // 1_000_000} megapixels"
    if not len(index):
        cause, advice = "there is no frame in it", "Copy or download it again."
    elif video.picture:
        cause = f"it can't be decoded: damaged, or of more than {limit}"
        advice = "Copy or download it again, or scale it down."
    elif not video.stream.codec_context.width:
        cause = f"its pictures have no size, or more than {limit}"
        return UnsupportedMediaError(cause, path=path, advice="Scale it down first.")
    else:
        cause, advice = "no frame of it can be decoded", "It is damaged or encrypted: copy or download it again."
    return DecodeError(cause, path=path, advice=advice)


def _true_rate(declared: Fraction | None, index: FrameIndex) -> Fraction | None:
    """Return the declared frame rate if the packets confirm it within 10 %, otherwise the measured one."""
    measured = index.measured_fps
    confirmed = measured is None or (declared and abs(declared / measured - 1) < Fraction(1, 10))
    return declared if confirmed else measured


def _warnings(path: str | PathLike[str], video: OpenVideo, first: VideoFrame, index: FrameIndex) -> list[str]:
    warnings = []
    if transfer := _HDR_TRANSFERS.get(int(first.color_trc)):
        warnings.append(f"HDR ({transfer}) colors are not tone-mapped: scores may be off")
    if first.interlaced_frame:
        warnings.append("interlaced video: moving faces may show combing")
    if video.video_streams > 1:
        warnings.append(f"{video.video_streams} video streams: only the main one is scanned")
    longest = float(np.diff(index.times_s, append=index.duration_s).max())
    if longest > max(_LONG_STILL_S, index.duration_s / 2):
        warnings.append(
            f"one picture stays for {longest:.0f} of its {index.duration_s:.0f} s: its time stamps may be wrong"
        )
    if partial := _partial(path, video, index):
        warnings.append(partial)
    return warnings


def _partial(path: str | PathLike[str], video: OpenVideo, index: FrameIndex) -> str:
    """Describe the missing part of a truncated file; empty if nothing is known to be missing.

    A declared duration alone is no evidence, because it may be wrong. A file smaller than it declares, or one that
    couldn't be read to its end, is.
    """
    container = video.container
    declared_frames = video.stream.frames
    if container.format.name.startswith("mov") and declared_frames > len(index.leading):
        # Samples removed by the edit list aren't missing.
        in_file = _end_of(path, "video", edit_lists=False)[0]
        if in_file < declared_frames:
            return f"partial: {min(in_file, len(index.leading))} of {declared_frames} frames are in the file"
    declared_s = (container.duration or 0) / av.time_base
    gave_up = bool(index.read_errors) or 0 < index.end_position < _READ_SHARE * container.size
    tolerance_s = max(_EARLY_END_S, _EARLY_END_SHARE * declared_s)
    ends_early = index.duration_s < declared_s - tolerance_s
    if ends_early and gave_up and not index.read_errors and not video.cut_short:
        # The sound may be longer than the video.
        ends_early = gave_up = _end_of(path, "audio")[1] < declared_s - tolerance_s
    if video.cut_short or (gave_up and ends_early):
        of = f" of {declared_s:.1f} s" if ends_early else ""
        return f"partial: the file breaks off after {index.duration_s:.1f} s{of}"
    return "partial: parts of the file can't be read" if index.read_errors else ""


def _end_of(path: str | PathLike[str], kind: str, *, edit_lists: bool = True) -> tuple[int, float]:
    """Return the number of packets of the shown video or of the sound, and the end time of the last one."""
    count, end_s = 0, 0.0
    with open_video(path, edit_lists=edit_lists) as video:
        streams = [video.stream] if kind == "video" else list(video.container.streams.audio)
        start_s = (video.container.start_time or 0) / av.time_base
        if streams:
            for packet in PacketReader[Stream](lambda: video.container.demux(*streams)):
                count += 1
                if packet.pts is not None:
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start_s)
    return count, end_s
