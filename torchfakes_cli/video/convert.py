"""Converts decoded frames to upright RGB pictures with square pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from torchfakes_cli.video.open import damage_ignored
from torchfakes_cli.video.options import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from av.packet import Packet
    from av.sidedata.sidedata import SideData
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

#: Pixel aspect ratios beyond this come from a broken header, not from a camera.
_LONGEST_PIXEL = 4

_EXIF_ORIENTATION = 0x0112

#: Maximum number of picture sizes in one stream.
_MOST_SIZES = 64


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return the (width, height) with square pixels, enlarging one side of the stored picture.

    ``aspect`` is width ÷ height of one stored pixel; None and implausible values count as 1.
    """
    if aspect is None or not Fraction(1, _LONGEST_PIXEL) <= aspect <= _LONGEST_PIXEL:
        return width, height
    size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return size if size[0] * size[1] <= MAX_PIXELS else (width, height)


@dataclass(frozen=True, slots=True)
class Orientation:
    """Transformation that makes a stored picture upright: a transposition, then left-right and top-bottom flips."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Read a frame's display matrix; a frame without a usable one counts as upright."""
        try:
            # PyAV's stubs declare only one type of side data.
            side_data = cast("Mapping[str, SideData]", frame.side_data)
        except ValueError:
            # PyAV rejects the Exif side data that FFmpeg passes on: only the rotation is available then.
            return cls.turned(-frame.rotation)
        if "DISPLAYMATRIX" not in side_data:
            return cls()
        values = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype=np.int32)
        if len(values) < 5:
            return cls()
        # The first two columns of [[a, b, u], [c, d, v], [x, y, w]]: a stored (x, y) is shown at (ax + cy, bx + dy).
        a, b, c, d = (int(values[place]) for place in (0, 1, 3, 4))
        if min(abs(a), abs(d)) > max(abs(b), abs(c)):
            return cls(False, a < 0, d < 0)
        if min(abs(b), abs(c)) > max(abs(a), abs(d)):
            return cls(True, c < 0, b < 0)
        return cls()

    @classmethod
    def turned(cls, clockwise: int) -> Orientation:
        """Return the orientation for a clockwise rotation in degrees, a multiple of 90."""
        turns = {90: cls(True, True, False), 180: cls(False, True, True), 270: cls(True, False, True)}
        return turns.get(clockwise % 360, cls())

    @classmethod
    def of_picture(cls, path: str | PathLike[str]) -> Orientation:
        """Read the Exif orientation of a still picture; a picture without a usable one counts as upright."""
        from PIL import Image

        try:
            with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as picture:
                value = int(picture.getexif().get(_EXIF_ORIENTATION, 1))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - Pillow's parsers raise many types on hostile metadata
            return cls()
        # Exif 2.32, tag 0x0112: the sides on which the first stored row and column are shown.
        mirrored = {2: cls(False, True, False), 4: cls(False, False, True), 5: cls(True), 7: cls(True, True, True)}
        turned = {3: 180, 6: 90, 8: 270}
        return mirrored.get(value, cls.turned(turned.get(value, 0)))

    @property
    def clockwise(self) -> int:
        """Clockwise rotation in degrees: 0, 90, 180 or 270, ahead of the left-to-right reflection if there is one."""
        if not self.transpose:
            return 180 if self.flip_y else 0
        return 270 if self.flip_y else 90

    def size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return the upright (width, height) of a stored (width, height)."""
        return (stored[1], stored[0]) if self.transpose else stored

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an H×W×3 picture upright."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.flip_x:
            pixels = pixels[:, ::-1]
        if self.flip_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


#: Parts of a key frame that hold its size: of VP8 (RFC 6386, 9.1) and VP9 the header, of H.264 and H.265 the sequence
#: parameter set. Other matches do no harm.
_SIZE_PARTS = {
    "vp8": re.compile(rb"(?s).{6}(.{4})"),
    "vp9": re.compile(rb"(?s)(.{9})"),
    "h264": re.compile(rb"(?s)\0\0.[\x27\x47\x67](.{20})"),
    "hevc": re.compile(rb"(?s)\0\0.\x42\x01(.{40})"),
}


class Sizes:
    """Finds the largest picture size among the key frames of a stream.

    Recordings of video calls start small and change their size repeatedly, mostly in VP8, VP9 or H.264.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._extradata = stream.codec_context.extradata
        self._codec = stream.codec_context.codec.canonical_name
        self._known: set[bytes] = set()
        self._sizes: set[tuple[int, int]] = set()

    def add(self, packet: Packet[VideoStream]) -> None:
        """Decode a packet if it is a key frame that may have a new size."""
        if not packet.is_keyframe or self._codec not in _SIZE_PARTS or len(self._known) >= _MOST_SIZES:
            return
        part = _SIZE_PARTS[self._codec].search(bytes(memoryview(packet)[:512]))
        if part is None or part[1] in self._known:
            return
        self._known.add(part[1])
        if len(self._known) == 1:
            return  # the first frame is decoded anyway
        decoder = cast("VideoCodecContext", av.CodecContext.create(self._codec, "r"))
        decoder.extradata = self._extradata
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        with damage_ignored():  # the scan reports it
            frames = [*decoder.decode(packet), *decoder.decode(None)]
            self._sizes.update((frame.width, frame.height) for frame in frames)

    def largest(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) that holds every picture, given the size of the first decoded one."""
        sides = zip(*self._sizes, (width, height), strict=True)
        largest = max(next(sides)), max(next(sides))
        return largest if largest[0] * largest[1] <= MAX_PIXELS else (width, height)


class PictureMaker:
    """Converts decoded frames to upright H×W×3 uint8 RGB pictures with square pixels, all of one (width, height).

    A frame of another size is scaled down if it doesn't fit, and padded with black. The orientation is that of the
    stream, because reading it from a frame keeps that frame alive.

    Attributes:
        fitted: number of pictures that had another size.
    """

    def __init__(self, aspect: Fraction | None, orientation: Orientation, size: tuple[int, int]) -> None:
        self.fitted = 0
        self._aspect = aspect
        self._orientation = orientation
        self._stored = orientation.size(size)
        # One scaler for all frames: creating it costs as much as scaling a small frame. One thread: two take an eighth
        # more processor time for 1080p, and the other cores decode.
        self._reformatter = VideoReformatter()

    def make(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert one frame."""
        size = width, height = square_size(frame.width, frame.height, self._aspect)
        if size != self._stored:
            scale = min(1.0, self._stored[0] / width, self._stored[1] / height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        pixels = rgb.to_ndarray().astype(np.uint8, copy=False)
        if size != self._stored:
            self.fitted += 1
            left, top = (self._stored[0] - width) // 2, (self._stored[1] - height) // 2
            fitted = np.zeros((self._stored[1], self._stored[0], 3), np.uint8)
            fitted[top : top + height, left : left + width] = pixels
            pixels = fitted
        return self._orientation.apply(pixels)
