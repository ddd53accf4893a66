"""Writes H.264 clips, adds sound from another file, and compresses pictures in memory."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from heapq import merge
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from torchfakes_cli.errors import OutputError
from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.open import AV_ERRORS, damage_ignored, open_video
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    _Packet = Packet[AudioStream] | Packet[VideoStream]

#: MPEG's clock in Hz. It represents frame rates of 24, 25, 30, 50, 60 and 30000/1001 exactly, all others within 6 µs.
CLOCK = 90_000

#: x264's quality and speed: overlays stay sharp, and encoding takes about as long as decoding and drawing.
_CRF = 20
_PRESET = "veryfast"

#: Maximum seconds between key frames, so that players seek quickly.
_KEY_EACH_S = 2

#: Maximum duration of a picture in MP4: 31 bits.
_LONGEST_TICKS = (1 << 31) - 1

_FALLBACK_RATE = Fraction(25)
_MOST_THREADS = 16

#: Maximum picture side that x264 supports.
MAX_SIDE = 16384


class ClipWriter:
    """Writes an H.264 clip (MP4, 4:2:0, with its index in front for progressive playback); a context manager.

    If the context is left by an error, the file is removed.

    Args:
        path: path of the file, which is replaced.
        size: (width, height) of the pictures in pixels, both even.
        fps: approximate frames per second; None if unknown.
        container: ``mp4`` or ``mov``.
        comment: comment in the file's metadata.

    Raises:
        OutputError: H.264 doesn't support the size, or a picture can't be written.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], *, fps: Fraction | None, container: str = "mp4", comment: str = ""
    ) -> None:
        if max(size) > MAX_SIDE:
            raise OutputError(
                f"H.264 takes no pictures of {size[0]}x{size[1]}", path=path, advice="Scale the video down first."
            )
        self._path = path
        self._reformatter = VideoReformatter()
        self._last = -1
        self._durations: dict[int, int] = {}
        rate = fps if fps is not None and 0 < fps <= 1000 else _FALLBACK_RATE
        self._output = av.open(str(path), "w", format=container, container_options={"movflags": "+faststart"})
        if comment:
            self._output.metadata["comment"] = comment
        options = {
            "crf": str(_CRF),
            "preset": _PRESET,
            "g": str(max(1, round(_KEY_EACH_S * rate))),
            "x264-params": "log-level=none",
        }
        self._stream = self._output.add_stream("libx264", rate=rate.limit_denominator(1001), options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        context.thread_count = min(usable_cores(), _MOST_THREADS)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        finished = False
        try:
            if kind is None:
                self._encode(None)
                finished = True
        finally:
            if not finished:
                # Removed before it is closed; closing would otherwise rewrite the file to move its index to the front.
                with suppress(OSError):
                    self._path.unlink()
                with suppress(*AV_ERRORS):
                    self._output.close()
                self._path.unlink(missing_ok=True)

    def write(self, pixels: NDArray[np.uint8], time_s: float, duration_s: float) -> None:
        """Add the next picture.

        Args:
            pixels: H×W×3 RGB of the clip's size, contiguous.
            time_s: presentation time in seconds, later than the previous picture's.
            duration_s: display duration in seconds, used for the last picture.
        """
        shown = av.VideoFrame.from_numpy_buffer(pixels, "rgb24")
        frame = self._reformatter.reformat(
            shown, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        # Two pictures within one tick get separate timestamps.
        pts = max(self._last + 1, round(time_s * CLOCK))
        if pts - self._last > _LONGEST_TICKS:
            raise OutputError(
                f"a picture would stay for {(pts - self._last) / CLOCK / 3600:.0f} h, longer than a clip can hold",
                path=self._path,
                advice="The time stamps of the video are likely wrong.",
            )
        frame.pts = self._last = pts
        frame.time_base = Fraction(1, CLOCK)
        self._durations[frame.pts] = min(max(1, round(duration_s * CLOCK)), _LONGEST_TICKS)
        self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Encode a picture, or completes the file."""
        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._durations.pop(packet.pts or 0, 0)
                self._output.mux(packet)
            if frame is None:
                self._output.close()
        except MemoryError:
            raise
        except AV_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"can't be written: {reason}", path=self._path) from error


#: Audio codecs that players expect in each container; others are re-encoded.
COPIED = {
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"}),
}

_BIT_RATE = 160_000
_RATES = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_USUAL_RATE = 48_000
#: Samples in a packet of AAC.
_PACKET_SAMPLES = 1024
#: Minimum gap in the sound, in seconds, that is preserved; shorter ones are timestamp jitter and are closed.
_GAP_S = 0.1


def add_sound(
    silent: str,
    source: str,
    target: Sequence[Any],
    *,
    zero_s: float | None,
    container: str,
    on_packet: Callable[[], None],
) -> tuple[bool, tuple[str, ...]]:
    """Write a file with the pictures of one clip and the sound of another file.

    Sound is copied if players expect its codec in the container, otherwise re-encoded. Sound and pictures stay in sync:
    if the sound begins earlier, the pictures are delayed.

    Args:
        silent: path of the clip with the pictures.
        source: path of the file with the sound.
        target: path of the new file, which is replaced, optionally followed by an open file descriptor for it.
        zero_s: the clip's time zero on the clock of the source; None if unknown.
        container: ``mp4`` or ``mov``.
        on_packet: callback for every packet.

    Returns:
        Whether a file with sound was written, and notes for the user about the sound.
    """
    with open_video(source) as opened:
        streams = opened.container.streams.audio
        if not streams:
            return False, ()
        sound = _main(streams)
        if sound is None:
            return False, ("sound left out: its codec is unknown or encrypted",)
        if zero_s is None:
            return False, ("sound left out: its time can't be told from the file",)
        name = sound.codec_context.name
        start_s = zero_s
        if sound.start_time is not None and sound.time_base is not None:
            start_s = float(sound.start_time * sound.time_base)
    notes = (f"{len(streams)} sound tracks: only the main one is kept",) if len(streams) > 1 else ()
    origin_s = min(zero_s, start_s)
    usual = av.Codec(name, "r").canonical_name in COPIED[container]
    reason = ""
    for copy in (True, False) if usual else (False,):
        try:
            with (
                av.open(silent) as pictures,
                open_video(source) as opened,
                _writable(*target) as file,
                av.open(file, "w", format=container, container_options={"movflags": "+faststart"}) as output,
            ):
                output.metadata.update({key: value for key, value in pictures.metadata.items() if key == "comment"})
                shown, sound = pictures.streams.video[0], _main(opened.container.streams.audio)
                assert sound is not None, "the same file has the same streams"
                written = output.add_stream_from_template(shown)
                video: Iterator[_Packet] = _moved(pictures.demux(shown), written, zero_s - origin_s)
                heard = _in_order(opened.container, sound)
                if copy:
                    audio = _moved(heard, output.add_stream_from_template(sound), -origin_s)
                else:
                    audio = _encoded(heard, sound, output, origin_s)
                found = False
                for packet in merge(video, audio, key=lambda packet: (packet.dts or 0) * packet.time_base):
                    on_packet()
                    found = found or packet.stream.type == "audio"
                    output.mux(packet)
        except MemoryError:
            raise
        except AV_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        else:
            if not found:
                return False, ("sound left out: there is none in its track",)
            return True, notes + (() if copy else (f"sound re-encoded: {name} isn't usual in {container.upper()}",))
    return False, (f"sound left out: {reason}",)


def _main(streams: Sequence[AudioStream]) -> AudioStream | None:
    """Return the stream that a player selects by default, among those that can be decoded."""
    decodable = [stream for stream in streams if stream.codec_context is not None]
    marked = (stream for stream in decodable if stream.disposition & Disposition.default)
    return next(marked, decodable[0] if decodable else None)


def _writable(path: str, descriptor: int | None = None) -> FileIO:
    """Open the new file, by its descriptor in a sandboxed process that can't open files for writing."""
    file = FileIO(path if descriptor is None else descriptor, "wb+", closefd=descriptor is None)
    file.name = path  # FFmpeg reopens the file by this name to move the index to the front
    file.truncate(0)
    file.seek(0)
    return file


def _moved(packets: Iterable[_Packet], written: AudioStream | VideoStream, by_s: float) -> Iterator[_Packet]:
    for packet in packets:
        if packet.dts is None:
            continue
        shift = round(by_s / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts, packet.stream = packet.dts + shift, written
        yield packet


def _in_order(container: InputContainer, sound: AudioStream) -> Iterator[Packet[AudioStream]]:
    """Yield packets without those that containers reject: without a timestamp or with a non-increasing one."""
    last: int | None = None
    for packet in PacketReader[Any](lambda: container.demux(sound)):
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is not None and not packet.is_corrupt and (last is None or packet.dts > last):
            last = packet.dts
            yield packet


def _encoded(
    heard: Iterator[Packet[AudioStream]], sound: AudioStream, output: OutputContainer, origin_s: float
) -> Iterator[_Packet]:
    """Add an AAC stream to the output at once; yields the sound re-encoded, moved to start at ``origin_s``.

    Damaged packets are skipped.
    """
    context = sound.codec_context
    rate = context.sample_rate if context.sample_rate in _RATES else _USUAL_RATE
    layout = "mono" if context.layout.nb_channels == 1 else "stereo"
    written = output.add_stream("aac", rate=rate, options={"b": str(_BIT_RATE)})
    written.codec_context.layout = layout
    resampler = AudioResampler("fltp", layout, rate, _PACKET_SAMPLES)

    def resampled() -> Iterator[AudioFrame]:
        for packet in chain(heard, (None,)):
            with damage_ignored():
                for frame in context.decode(packet):
                    yield from resampler.resample(frame)
        yield from resampler.resample(None)

    def packets() -> Iterator[_Packet]:
        expected: int | None = None
        for frame in resampled():
            # Timestamps of a coarse clock are off by some samples; only longer gaps are real.
            time = (frame.pts or 0) - round(origin_s * rate)
            if expected is not None and time < expected + _GAP_S * rate:
                time = expected
            frame.pts, frame.time_base = time, Fraction(1, rate)
            expected = time + frame.samples
            yield from written.encode(frame)
        yield from written.encode(None)

    return packets()


Picture = NDArray[np.uint8]

#: x264's maximum CRF; its default is 23, and FaceForensics++'s strongest compression uses 40.
MAX_CRF = 51


def h264_round_trip(pictures: Sequence[Picture], crf: int, *, preset: str = "veryfast") -> list[Picture]:
    """Compress pictures as consecutive frames of one H.264 video at a constant quality and decompress them.

    Args:
        pictures: one or more pictures, all H×W×3 uint8 RGB of one size; encoded in 4:2:0, like nearly every video.
        crf: quality from 0 (almost lossless) to 51.
        preset: x264's speed preset.

    Returns:
        The decompressed pictures, with the same number and size.

    Raises:
        ValueError: no pictures, pictures of several sizes, or a quality out of range.
    """
    if not 0 <= crf <= MAX_CRF:
        raise ValueError(f"the CRF lies between 0 and {MAX_CRF}, not at {crf}")
    if len({picture.shape for picture in pictures}) != 1:
        raise ValueError("give one or more pictures of one size")
    height, width = pictures[0].shape[:2]
    encoder: VideoCodecContext = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": preset, "x264-params": "log-level=none"}
    decoder: VideoCodecContext = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    # Threads would make the conversion of a small picture about ten times slower.
    reformatter = VideoReformatter()
    packets = []
    for place, picture in enumerate(pictures):
        # 4:2:0 needs even sides: the last row and column are repeated here and cut off again below.
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = reformatter.reformat(frame, format="yuv420p", threads=1)
        frame.pts = place
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    if len(frames) != len(pictures):
        raise ValueError(f"{len(frames)} of {len(pictures)} pictures came back from the encoder")
    shown = (reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray() for frame in frames)
    return [np.ascontiguousarray(picture[:height, :width], np.uint8) for picture in shown]
