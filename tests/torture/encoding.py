"""Pictures and tones to files, and files to other files by copying their packets: what FFmpeg does, through PyAV."""

from __future__ import annotations

import io
import math
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.codec.codec
import numpy as np
from av.stream import Disposition

from tests.clips import write_clip
from tests.torture.case import CannotMake, Writer
from tests.torture.pictures import RATE, head_clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.torture.pictures import Pixels

    Picture = Pixels | av.VideoFrame

# SVT-AV1 reads it when an encoder is opened, and else fills standard error.
os.environ.setdefault("SVT_LOG", "1")

#: Makes muxers and encoders leave out versions, dates and random identifiers.
BITEXACT_CONTAINER = {"fflags": "+bitexact"}
BITEXACT_CODEC = {"flags": "+bitexact"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a clip is encoded and packed.

    Attributes:
        codec: FFmpeg's name of the encoder.
        options: of the encoder.
        pixel_format: FFmpeg's name.
        container: FFmpeg's name of the format; by the file's ending if it is None.
        container_options: of the muxer.
        fps: frame rate.
        aspect: width ÷ height of a stored pixel.
        codec_tag: four characters that name the codec in the file, if not the usual ones.
        title: of the file.
    """

    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    container: str | None = None
    container_options: Mapping[str, str] = field(default_factory=dict)
    fps: Fraction | int = RATE
    aspect: Fraction | None = None
    codec_tag: str | None = None
    title: str | None = None


#: The fast H.264 that most cases use.
H264 = Encoding("libx264", {"crf": "20"})


def encode(place: Path, pictures: Iterable[Picture], encoding: Encoding = H264) -> Path:
    """Encodes pictures into a file; the same ones give the same bytes.

    Raises:
        CannotMake: this build of FFmpeg lacks the encoder.
    """
    options = dict(encoding.options)
    options["flags"] = options.get("flags", "") + BITEXACT_CODEC["flags"]
    try:
        return write_clip(
            place,
            pictures,
            encoding.fps,
            encoding.codec,
            options,
            aspect=encoding.aspect,
            pixel_format=encoding.pixel_format,
            container=encoding.container,
            container_options={**BITEXACT_CONTAINER, **encoding.container_options},
            codec_tag=encoding.codec_tag,
            title=encoding.title,
        )
    except av.codec.codec.UnknownCodecError as error:
        raise CannotMake(f"FFmpeg was built without the encoder {encoding.codec}") from error


def head_writer(encoding: Encoding = H264) -> Writer:
    """A writer of the talking head in an encoding, for tables of cases."""

    def write(place: Path) -> None:
        encode(place, head_clip(), encoding)

    return write


def encoded_bytes(suffix: str, pictures: Iterable[Picture], encoding: Encoding = H264) -> bytes:
    """The bytes of such a file; its suffix, such as ``.ts``, chooses the container unless the encoding does."""
    with tempfile.TemporaryDirectory() as folder:
        return encode(Path(folder, f"clip{suffix}"), pictures, encoding).read_bytes()


def encode_tone(place: Path, duration_s: float, codec: str, container: str | None = None) -> Path:
    """Encodes a tone of 440 Hz."""
    with av.open(str(place), "w", format=container, options=dict(BITEXACT_CONTAINER)) as output:
        stream = output.add_stream(codec, rate=44100, layout="mono", options=dict(BITEXACT_CODEC))
        for frame in _tone_frames(duration_s):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return place


def tone_bytes(suffix: str, duration_s: float, codec: str) -> bytes:
    """The bytes of such a file."""
    with tempfile.TemporaryDirectory() as folder:
        return encode_tone(Path(folder, f"tone{suffix}"), duration_s, codec).read_bytes()


def _tone_frames(duration_s: float, rate: int = 44100, samples: int = 1024) -> Iterator[av.AudioFrame]:
    total = round(duration_s * rate)
    wave = (np.sin(np.arange(total) * (2 * math.pi * 440 / rate)) * 4000).astype(np.int16)
    for start in range(0, total, samples):
        frame = av.AudioFrame.from_ndarray(wave[np.newaxis, start : start + samples], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


@dataclass(frozen=True, slots=True)
class Track:
    """The first stream of a file, to be copied into another.

    Attributes:
        data: the file's bytes.
        container: FFmpeg's name of its format, where it can't be seen from the bytes.
        shift_s: seconds added to its times.
        disposition: FFmpeg's flags of the stream, such as ``Disposition.attached_pic``.
    """

    data: bytes
    container: str | None = None
    shift_s: Fraction | int = 0
    disposition: Disposition | None = None


def remux(
    place: Path, tracks: Iterable[Track], container: str | None = None, options: Mapping[str, str] | None = None
) -> Path:
    """Packs the first streams of some files into one, without encoding anything anew."""
    with ExitStack() as stack:
        output = stack.enter_context(
            av.open(str(place), "w", format=container, options={**BITEXACT_CONTAINER, **(options or {})})
        )
        pairs = []
        for track in tracks:
            source = stack.enter_context(av.open(io.BytesIO(track.data), format=track.container))
            stream = output.add_stream_from_template(source.streams[0])
            if track.disposition is not None:
                stream.disposition = track.disposition
            pairs.append((track, source, stream))
        # The muxer puts packets in order: those of all streams before the last are held back until it has its own.
        for track, source, stream in pairs:
            for packet in source.demux(source.streams[0]):
                if packet.dts is None:
                    continue
                shift = round(track.shift_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                output.mux(packet)
    return place


def repeat(place: Path, data: bytes, times: int, container: str | None = None) -> Path:
    """Plays the first stream of a file again and again, by copying its packets.

    The clip must have no B-frames, so that its packets are in the order of presentation.
    """
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(str(place), "w", format=container, options=dict(BITEXACT_CONTAINER)) as output,
    ):
        stream = output.add_stream_from_template(source.streams[0])
        packets = [packet for packet in source.demux(source.streams[0]) if packet.dts is not None]
        period = sum(packet.duration for packet in packets)
        for lap in range(times):
            for packet in packets:
                copied = av.Packet(bytes(packet))
                copied.pts = copied.dts = packet.pts + lap * period
                copied.duration, copied.time_base = packet.duration, packet.time_base
                copied.is_keyframe, copied.stream = packet.is_keyframe, stream
                output.mux(copied)
    return place
