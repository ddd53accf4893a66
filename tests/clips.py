"""Writes small video files whose content is known, so that tests can tell which frame they were given.

``barcode_frames`` makes moving pictures with their index burnt into the bottom rows as 16 black or white blocks (most
significant first), which survive any codec; ``read_barcode`` reads it back. ``write_clip`` encodes pictures with PyAV.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

BARCODE_BLOCKS = 16


def burn_barcode(pixels: Pixels, number: int) -> Pixels:
    """Burns a number below 65536 into the bottom rows of an H×W×3 picture, in place, and returns the picture."""
    height, width = pixels.shape[:2]
    top = height - max(8, height // 12)
    for block in range(BARCODE_BLOCKS):
        left, right = block * width // BARCODE_BLOCKS, (block + 1) * width // BARCODE_BLOCKS
        pixels[top:, left:right] = 255 if number >> (BARCODE_BLOCKS - 1 - block) & 1 else 0
    return pixels


def read_barcode(pixels: Pixels) -> int:
    """The number burnt into an upright picture, whatever the codec made of it."""
    height, width = pixels.shape[:2]
    row = pixels[height - max(8, height // 12) // 2, :, 1]
    centers = ((np.arange(BARCODE_BLOCKS) + 0.5) * width / BARCODE_BLOCKS).astype(int)
    number = 0
    for center in centers:
        number = number << 1 | int(row[center - 1 : center + 2].mean() > 127)
    return number


def barcode_frames(count: int, size: tuple[int, int] = (320, 180), first: int = 0) -> Iterator[Pixels]:
    """``count`` H×W×3 RGB pictures of (width, height) ``size``: a moving texture with the index burnt in.

    The left half of the top is red and the right half is blue, so that a test can tell which way is up.
    """
    width, height = size
    texture = np.random.default_rng(7).integers(40, 216, (height, width, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    for number in range(first, first + count):
        pixels = np.roll(texture, (number * 2, number * 3), axis=(0, 1))
        pixels[: height // 6, : width // 2] = (220, 20, 20)
        pixels[: height // 6, width // 2 :] = (20, 20, 220)
        yield burn_barcode(pixels, number)


def write_clip(
    path: str | Path,
    frames: Iterable[Pixels | av.VideoFrame],
    fps: Fraction | int = 30,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    rotation: int = 0,
    mirrored: bool = False,
    times_s: Sequence[float] | None = None,
    aspect: Fraction | None = None,
    pixel_format: str = "yuv420p",
    container: str | None = None,
    transfer: int | None = None,
    container_options: dict[str, str] | None = None,
    codec_tag: str | None = None,
    title: str | None = None,
) -> Path:
    """Encodes pictures into a video file, and returns its path.

    Args:
        path: of the file; its ending chooses the container unless ``container`` does.
        frames: H×W×3 uint8 RGB pictures of one size with even sides, as they are stored; or frames that are encoded as
            they are, in their own pixel format and with the color properties that they declare.
        fps: frame rate.
        codec: FFmpeg's name of the encoder.
        options: of the encoder; fast ones by default for libx264.
        rotation: degrees clockwise (0, 90, 180, 270) that a player turns the stored pictures; MP4 and MOV only.
        mirrored: a player also mirrors them left to right, after turning; MP4 and MOV only.
        times_s: presentation times, for a variable rate or a late start; ``fps`` decides otherwise.
        aspect: width ÷ height of a stored pixel.
        pixel_format: FFmpeg's name.
        container: FFmpeg's name of the format.
        transfer: transfer function (ITU-T H.273 number) to declare: 16 is PQ, 18 is HLG.
        container_options: of the muxer.
        codec_tag: four characters that name the codec in the file, where the usual ones aren't wanted.
        title: to write into the container's metadata.
    """
    path = Path(path)
    tick = Fraction(1, 90000) if times_s is not None else 1 / Fraction(fps)
    stream = None
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        if title is not None:
            output.metadata["title"] = title
        for number, picture in enumerate(frames):
            frame = _as_frame(picture, pixel_format)
            if stream is None:
                stream = output.add_stream(codec, rate=Fraction(fps), options=_encoder_options(codec, options))
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = frame.format.name
                stream.codec_context.time_base = tick
                if frame is picture:
                    _declare_colors(stream.codec_context, frame)
                if codec_tag is not None:
                    stream.codec_context.codec_tag = codec_tag
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if transfer is not None:
                    stream.codec_context.color_trc = transfer
            frame.pts = number if times_s is None else round(times_s[number] / tick)
            frame.time_base = tick
            if transfer is not None:
                frame.color_trc = transfer
            output.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs at least one frame")
        output.mux(stream.encode())
    if rotation or mirrored:
        set_display_matrix(path, display_matrix(rotation, mirrored=mirrored))
    return path


def _as_frame(picture: Pixels | av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    if isinstance(picture, av.VideoFrame):
        return picture
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format=pixel_format)


def _declare_colors(context: av.VideoCodecContext, frame: av.VideoFrame) -> None:
    context.colorspace, context.color_range = frame.colorspace, frame.color_range
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc


def _encoder_options(codec: str, options: dict[str, str] | None) -> dict[str, str]:
    fast = {
        "libx264": {"preset": "ultrafast", "crf": "18", "threads": "2"},
        "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "log-level=none"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
        "libsvtav1": {"preset": "12"},
        "mpeg4": {"b": "4M"},
        "mpeg2video": {"b": "4M"},
    }
    return {**fast.get(codec, {}), **(options or {})}


def display_matrix(rotation: int, *, mirrored: bool = False) -> tuple[int, ...]:
    """The nine numbers, by rows, of a turn by 0, 90, 180 or 270 degrees clockwise, after which a player may mirror."""
    # Rows (a, b), (c, d): the stored point (x, y) is shown at (ax + cy, bx + dy), with y pointing down.
    turns = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = turns[rotation]
    if mirrored:
        a, c = -a, -c
    return a, b, 0, c, d, 0, 0, 0, 1


def set_display_matrix(path: Path, matrix: Sequence[float]) -> None:
    """Writes the nine numbers of the track's display matrix, by rows, into an MP4 file (ISO/IEC 14496-12, ``tkhd``)."""
    # 16.16 fixed point, but 2.30 in the last column.
    fixed = [round(value * (1 << (30 if number % 3 == 2 else 16))) for number, value in enumerate(matrix)]
    packed = struct.pack(">9i", *fixed)
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    if data[header] != 0:
        raise ValueError("only version 0 of the track header is written here")
    # Version and flags, two times, number, reserved, duration; then reserved, layer, group, volume, reserved.
    place = header + 4 + 5 * 4 + 2 * 4 + 4 * 2
    data[place : place + len(packed)] = packed
    path.write_bytes(data)


def packet_spans(path: str | Path) -> list[tuple[int, int]]:
    """Where each packet of the first video stream lies in a file, as (first byte, number of bytes)."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [(packet.pos, packet.size) for packet in packets if packet.size and packet.pos is not None]


def damage_packets(path: str | Path, numbers: Iterable[int]) -> Path:
    """Overwrites some packets of a clip with zeros, in place: its container stays valid."""
    path = Path(path)
    spans = packet_spans(path)
    data = bytearray(path.read_bytes())
    for number in numbers:
        start, size = spans[number]
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


def cut_file(path: str | Path, share: float) -> Path:
    """Keeps only the first ``share`` (0 to 1) of a file's bytes."""
    path = Path(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
