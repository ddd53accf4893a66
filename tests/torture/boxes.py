"""MP4, Matroska, GIF and PNG files made by hand, for lies that no muxer will write.

MP4 boxes are those of ISO/IEC 14496-12, Matroska elements those of RFC 9559.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.torture.pictures import Pixels, Size

FTYP_BRAND = b"qt  "
_UNITY = 1 << 16
_IDENTITY_MATRIX = struct.pack(">9i", _UNITY, 0, 0, 0, _UNITY, 0, 0, 0, 1 << 30)
_MAX_16 = 0xFFFF
_MAX_32 = 0xFFFFFFFF


def jpeg(picture: Pixels, quality: int = 90) -> bytes:
    """A picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


# --- MP4


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of four letters and a body."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, flags: int, *parts: bytes) -> bytes:
    """A box with a version (0) and flags."""
    return box(kind, struct.pack(">I", flags), *parts)


def ftyp() -> bytes:
    """The box that says that a file is a QuickTime movie."""
    return box(b"ftyp", FTYP_BRAND, struct.pack(">I", 512), FTYP_BRAND)


@dataclass(frozen=True, slots=True)
class Movie:
    """A QuickTime file of one video track, honest or not.

    Attributes:
        size: (width, height) of the header.
        codec: four letters of the sample entry, such as ``b"jpeg"``.
        samples: the pictures; one that is shown ``count`` times is stored once.
        count: of pictures, where ``samples`` is a single one.
        delta: ticks that a picture is shown.
        timescale: ticks a second.
        declared_duration: ticks that the headers claim; the true number by default.
    """

    size: Size
    codec: bytes
    samples: Sequence[bytes]
    count: int | None = None
    delta: int = 1000
    timescale: int = 25000
    declared_duration: int | None = None

    def to_bytes(self) -> bytes:
        """The file: its media come first, so that their place doesn't depend on the header's length."""
        media = box(b"mdat", *self.samples)
        start = ftyp()
        return start + media + self._moov(len(start) + 8)

    @property
    def _length(self) -> int:
        return len(self.samples) if self.count is None else self.count

    @property
    def _duration(self) -> int:
        duration = self._length * self.delta if self.declared_duration is None else self.declared_duration
        return duration & _MAX_32

    def _moov(self, media_start: int) -> bytes:
        header = struct.pack(">IIIIIH", 0, 0, self.timescale, self._duration, _UNITY, 256)
        mvhd = full_box(b"mvhd", 0, header, bytes(10), _IDENTITY_MATRIX, bytes(24), struct.pack(">I", 2))
        return box(b"moov", mvhd, self._trak(media_start))

    def _trak(self, media_start: int) -> bytes:
        width, height = (side & _MAX_16 for side in self.size)
        tkhd = full_box(
            b"tkhd",
            7,
            struct.pack(">IIIII", 0, 0, 1, 0, self._duration),
            bytes(16),
            _IDENTITY_MATRIX,
            struct.pack(">II", width << 16, height << 16),
        )
        mdhd = full_box(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, self.timescale, self._duration, 0x55C4, 0))
        hdlr = full_box(b"hdlr", 0, b"mhlr", b"vide", bytes(12), b"\0")
        dinf = box(b"dinf", full_box(b"dref", 0, struct.pack(">I", 1), full_box(b"url ", 1)))
        minf = box(b"minf", full_box(b"vmhd", 1, bytes(8)), dinf, self._stbl(media_start))
        return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, minf))

    def _stbl(self, media_start: int) -> bytes:
        entry = box(
            self.codec,
            bytes(6),
            struct.pack(">H", 1),
            bytes(16),
            struct.pack(">HHIIIH", *(side & _MAX_16 for side in self.size), 0x480000, 0x480000, 0, 1),
            bytes(32),
            struct.pack(">Hh", 24, -1),
        )
        stsd = full_box(b"stsd", 0, struct.pack(">I", 1), entry)
        stts = full_box(b"stts", 0, struct.pack(">III", 1, self._length, self.delta))
        chunks = struct.pack(">IIII", 1, 1, 1, 1) if self._length else struct.pack(">I", 0)
        stsc = full_box(b"stsc", 0, chunks)
        return box(b"stbl", stsd, stts, stsc, self._stsz(), self._stco(media_start))

    def _stsz(self) -> bytes:
        if self.count is not None:
            size = len(self.samples[0]) if self.samples else 0
            return full_box(b"stsz", 0, struct.pack(">II", size, self.count))
        sizes = [len(sample) for sample in self.samples]
        return full_box(b"stsz", 0, struct.pack(f">II{len(sizes)}I", 0, len(sizes), *sizes))

    def _stco(self, media_start: int) -> bytes:
        if self.count is not None:
            return full_box(b"stco", 0, struct.pack(">I", self.count), struct.pack(">I", media_start) * self.count)
        places = [media_start]
        for sample in self.samples[:-1]:
            places.append(places[-1] + len(sample))
        return full_box(b"stco", 0, struct.pack(f">I{len(places)}I", len(places), *places))


# --- Matroska

EBML = bytes.fromhex("1A45DFA3")
SEGMENT = bytes.fromhex("18538067")


def vint(number: int, length: int | None = None) -> bytes:
    """A number of variable length, in as few bytes as hold it or in a given number of them."""
    if length is None:
        length = 1
        while number >= (1 << (7 * length)) - 1:
            length += 1
    return (number | 1 << (7 * length)).to_bytes(length, "big")


def element(identifier: str, content: bytes | str | int | float) -> bytes:
    """An element by its identifier in hexadecimal digits; numbers and text are encoded as Matroska has them."""
    if isinstance(content, int):
        content = content.to_bytes(max(1, (content.bit_length() + 7) // 8), "big")
    elif isinstance(content, float):
        content = struct.pack(">d", content)
    elif isinstance(content, str):
        content = content.encode()
    length = 8 if len(content) > 1 << 20 else None
    return bytes.fromhex(identifier) + vint(len(content), length) + content


def matroska_head() -> bytes:
    """The EBML header of a Matroska file."""
    fields = (("4286", 1), ("42F7", 1), ("42F2", 4), ("42F3", 8), ("4282", "matroska"), ("4287", 4), ("4285", 2))
    return element(EBML.hex(), b"".join(element(identifier, value) for identifier, value in fields))


def matroska_info(duration_ms: float | None = None) -> bytes:
    """The segment's information: ticks of a millisecond, and a duration if any is claimed."""
    info = element("2AD7B1", 1_000_000) + element("4D80", "torture") + element("5741", "torture")
    if duration_ms is not None:
        info += element("4489", float(duration_ms))
    return element("1549A966", info)


def matroska_track(number: int, size: Size, codec: str, *, color: bytes = b"", deflated: bool = False) -> bytes:
    """A video track; ``deflated`` says that zlib is to be undone from its blocks."""
    picture = element("B0", size[0]) + element("BA", size[1]) + color
    track = element("D7", number) + element("73C5", number) + element("83", 1) + element("86", codec)
    track += element("E0", picture)
    if deflated:
        compression = element("5034", element("4254", 0))
        encoding = element("5031", 0) + element("5032", 1) + element("5033", 0) + compression
        track += element("6D80", element("6240", encoding))
    return element("AE", track)


def matroska_cluster(time_ms: int, payload: bytes) -> bytes:
    """A cluster of one key frame of track 1, at any time, even before 0."""
    start_ms = max(0, time_ms)
    block = b"\x81" + struct.pack(">h", time_ms - start_ms) + b"\x80" + payload
    return element("1F43B675", element("E7", start_ms) + element("A3", block))


def matroska(tracks: Sequence[bytes], clusters: Sequence[bytes], duration_ms: float | None = None) -> bytes:
    """A Matroska file."""
    body = matroska_info(duration_ms) + element("1654AE6B", b"".join(tracks)) + b"".join(clusters)
    return matroska_head() + SEGMENT + vint(len(body), 8) + body


def motion_jpeg_matroska(size: Size, frames: Sequence[tuple[int, bytes]], duration_ms: float) -> bytes:
    """A Matroska file of JPEG pictures at their times in milliseconds, and a claimed duration."""
    clusters = [matroska_cluster(time_ms, picture) for time_ms, picture in frames]
    return matroska([matroska_track(1, size, "V_MJPEG")], clusters, duration_ms)


# --- pictures that unpack to more than they are


def gray_png(size: Size) -> bytes:
    """A black gray-scale PNG file of any size, which zlib packs a thousandfold."""
    width, height = size
    row = bytes(width + 1)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def sparse_gif(size: Size, frames: int) -> bytes:
    """A GIF file whose every frame paints one pixel of a canvas."""
    header = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    delay_40_ms = b"\x21\xf9\x04\x04\x04\x00\x00\x00"
    one_pixel = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return header + (delay_40_ms + one_pixel) * frames + b"\x3b"
