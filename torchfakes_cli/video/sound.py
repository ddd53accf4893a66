"""Gives a silent clip the sound of the file that its pictures come from."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from heapq import merge
from io import FileIO
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import av
from av.audio.resampler import AudioResampler
from av.stream import Disposition

from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.opening import AV_ERRORS, open_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    _Packet = Packet[AudioStream] | Packet[VideoStream]

#: What players expect in each container; anything else is encoded anew.
COPIED = {
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"}),
}

_CODEC: Final = "aac"
_BIT_RATE = 160_000
_RATES = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_USUAL_RATE = 48_000
#: Samples in a packet of AAC.
_PACKET_SAMPLES = 1024
#: Seconds of sound that must be missing for its rest to be left where it is.
_GAP_S = 0.1


def add_sound(
    silent: str,
    source: str,
    target: Sequence[Any],
    *,
    zero_s: float | None,
    container: str,
    on_packet: Callable[[], None],
) -> tuple[bool, list[str]]:
    """Writes the pictures of one clip with the sound of another.

    Packets of sound are copied where players expect their codec in the container, and encoded anew elsewhere. Sound and
    pictures keep their distance in time: if sound begins earlier, the pictures are moved back.

    Args:
        silent: path of the clip with the pictures.
        source: path of the file with the sound.
        target: path of the new file, which is replaced, and a file descriptor to write it by, if this process has one.
        zero_s: the clip's time zero on the clock of the source; None if that can't be told.
        container: ``mp4`` or ``mov``.
        on_packet: called for every packet, a sign of progress.

    Returns:
        Whether there is a new file with sound, and what a user should know of the sound.
    """
    with open_video(source) as opened:
        streams = opened.container.streams.audio
        if not streams:
            return False, []
        sound = _main(streams)
        if sound is None:
            return False, ["sound left out: its codec is unknown or encrypted"]
        if zero_s is None:
            return False, ["sound left out: its time can't be told from the file"]
        name = sound.codec_context.name
        start_s = _start_s(sound)
    notes = [f"{len(streams)} sound tracks: only the main one is kept"] if len(streams) > 1 else []
    origin_s = zero_s if start_s is None else min(zero_s, start_s)
    ways = [_copied, _encoded] if _canonical(name) in COPIED[container] else [_encoded]
    reason = ""
    for way in ways:
        try:
            packets = _join(silent, source, target, way, zero_s - origin_s, origin_s, container, on_packet)
        except MemoryError:
            raise
        except AV_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        else:
            if not packets:
                return False, ["sound left out: there is none in its track"]
            if way is _encoded:
                notes.append(f"sound encoded anew: {name} isn't usual in {container.upper()}")
            return True, notes
    return False, [f"sound left out: {reason}"]


def _main(streams: Sequence[AudioStream]) -> AudioStream | None:
    """The stream that a player plays unless told otherwise, of those that can be decoded."""
    decodable = [stream for stream in streams if stream.codec_context is not None]
    marked = (stream for stream in decodable if stream.disposition & Disposition.default)
    return next(marked, decodable[0] if decodable else None)


def _canonical(decoder: str) -> str:
    """A codec's name from that of a decoder of it."""
    return av.Codec(decoder, "r").canonical_name


def _start_s(sound: AudioStream) -> float | None:
    """When sound is heard first: what an encoder puts in front of it to begin with is not."""
    if sound.start_time is None or sound.time_base is None:
        return None
    return float(sound.start_time * sound.time_base)


def _join(
    silent: str,
    source: str,
    target: Sequence[Any],
    way: Callable[[InputContainer, AudioStream, OutputContainer, float, Callable[[], None]], Iterator[_Packet]],
    video_s: float,
    origin_s: float,
    container: str,
    on_packet: Callable[[], None],
) -> int:
    """Writes the file, the pictures from ``video_s`` on, the sound from ``origin_s`` on; how many packets of sound."""
    count = 0
    with ExitStack() as stack:
        pictures = stack.enter_context(av.open(silent))
        opened = stack.enter_context(open_video(source))
        options = {"movflags": "+faststart"}
        file = stack.enter_context(_writable(*target))
        output = stack.enter_context(av.open(file, "w", format=container, container_options=options))
        output.metadata.update({key: value for key, value in pictures.metadata.items() if key == "comment"})
        video = _pictures(pictures, output, video_s, on_packet)
        found = _main(opened.container.streams.audio)
        assert found is not None, "the same file has the same streams"
        for packet in merge(video, way(opened.container, found, output, origin_s, on_packet), key=_time):
            count += packet.stream.type == "audio"
            output.mux(packet)
    return count


def _writable(path: str, descriptor: int | None = None) -> FileIO:
    """Opens the new file, by its descriptor where this process may open none."""
    file = FileIO(path if descriptor is None else descriptor, "wb+", closefd=descriptor is None)
    file.name = path  # read by this when the index is put in front
    file.truncate(0)
    file.seek(0)
    return file


def _time(packet: _Packet) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _pictures(
    pictures: InputContainer, output: OutputContainer, start_s: float, on_packet: Callable[[], None]
) -> Iterator[_Packet]:
    stream = pictures.streams.video[0]
    written = output.add_stream_from_template(stream)
    assert stream.time_base is not None
    shift = round(start_s / stream.time_base)

    def packets() -> Iterator[_Packet]:
        for packet in pictures.demux(stream):
            on_packet()
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, written
            yield packet

    return packets()


def _copied(
    container: InputContainer,
    sound: AudioStream,
    output: OutputContainer,
    origin_s: float,
    on_packet: Callable[[], None],
) -> Iterator[_Packet]:
    written = output.add_stream_from_template(sound)
    assert sound.time_base is not None
    shift = round(origin_s / sound.time_base)

    def packets() -> Iterator[_Packet]:
        for packet in _in_order(PacketReader(lambda: container.demux(sound), on_packet)):
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts, packet.stream = (packet.dts or 0) - shift, written
            yield packet

    return packets()


def _in_order(packets: PacketReader[AudioStream]) -> Iterator[Packet[AudioStream]]:
    """Leaves out what has no time, or one that is over: a file can't hold it."""
    last: int | None = None
    for packet in packets:
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is not None and not packet.is_corrupt and (last is None or packet.dts > last):
            last = packet.dts
            yield packet


def _encoded(
    container: InputContainer,
    sound: AudioStream,
    output: OutputContainer,
    origin_s: float,
    on_packet: Callable[[], None],
) -> Iterator[_Packet]:
    context = sound.codec_context
    rate = context.sample_rate if context.sample_rate in _RATES else _USUAL_RATE
    layout = "mono" if context.layout.nb_channels == 1 else "stereo"
    written = output.add_stream(_CODEC, rate=rate, options={"b": str(_BIT_RATE)})
    written.codec_context.layout = layout
    shift = round(origin_s * rate)

    def packets() -> Iterator[_Packet]:
        expected: int | None = None
        for frame in _resampled(container, sound, AudioResampler("fltp", layout, rate, _PACKET_SAMPLES), on_packet):
            # Times of a coarse clock are some samples off: only a real gap is one.
            time = (frame.pts or 0) - shift
            if expected is not None and time < expected + _GAP_S * rate:
                time = expected
            frame.pts, frame.time_base = time, Fraction(1, rate)
            expected = time + frame.samples
            yield from written.encode(frame)
        yield from written.encode(None)

    return packets()


def _resampled(
    container: InputContainer, sound: AudioStream, resampler: AudioResampler, on_packet: Callable[[], None]
) -> Iterator[AudioFrame]:
    """What is left of a stream's sound after its damaged packets, in the resampler's form."""
    for packet in chain(_in_order(PacketReader(lambda: container.demux(sound), on_packet)), (None,)):
        try:
            frames = sound.codec_context.decode(packet)
        except MemoryError:
            raise
        except AV_ERRORS:
            continue
        for frame in frames:
            yield from resampler.resample(frame)
    yield from resampler.resample(None)
