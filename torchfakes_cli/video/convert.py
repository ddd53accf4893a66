"""Converts decoded frames to upright RGB pictures with square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.reformatter import VideoReformatter

from torchfakes_cli.video.limits import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from av.packet import Packet
    from av.sidedata.sidedata import SideData
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

#: Pixel aspect ratios beyond this come from a broken header, not from a camera.
_LONGEST_PIXEL = 4

_EXIF_ORIENTATION = 0x0112


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Returns the (width, height) with square pixels, enlarging one side of the stored picture.

    Args:
        width: width of the stored picture in pixels.
        height: height of the stored picture in pixels.
        aspect: width ÷ height of one stored pixel; None and implausible values count as 1.
    """
    if aspect is None or not Fraction(1, _LONGEST_PIXEL) <= aspect <= _LONGEST_PIXEL:
        return width, height
    size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return size if size[0] * size[1] <= MAX_PIXELS else (width, height)


@dataclass(frozen=True, slots=True)
class Orientation:
    """Transformation that makes a stored picture upright: a transposition, then reflections.

    Attributes:
        transpose: whether rows and columns are swapped.
        flip_x: whether the result is then mirrored left to right.
        flip_y: whether the result is then mirrored top to bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Reads a frame's display matrix; a frame without a usable one counts as upright."""
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
        """Returns the orientation for a clockwise rotation in degrees, a multiple of 90."""
        turns = {90: cls(True, True, False), 180: cls(False, True, True), 270: cls(True, False, True)}
        return turns.get(clockwise % 360, cls())

    @classmethod
    def of_picture(cls, path: str | PathLike[str]) -> Orientation:
        """Reads the Exif orientation of a still picture; a picture without a usable one counts as upright."""
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
        """Returns the upright (width, height) of a stored (width, height)."""
        return (stored[1], stored[0]) if self.transpose else stored

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turns an H×W×3 picture upright."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.flip_x:
            pixels = pixels[:, ::-1]
        if self.flip_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


class Sizes:
    """Finds the largest picture size declared by the key frames of a VP8 or VP9 stream.

    Recordings of video calls in these codecs start small and change their size repeatedly. Other codecs are ignored.

    Args:
        codec: FFmpeg's name of the decoder.
    """

    def __init__(self, codec: str) -> None:
        self._read = {"vp8": _vp8_size, "vp9": _vp9_size}.get(codec.removeprefix("lib").replace("vpx-", ""))
        self._sizes: set[tuple[int, int]] = set()

    def add(self, packet: Packet[VideoStream]) -> None:
        """Records the size of a packet's picture if it is a key frame."""
        if self._read is not None and packet.is_keyframe and (size := self._read(bytes(memoryview(packet)[:16]))):
            self._sizes.add(size)

    def largest(self, width: int, height: int) -> tuple[int, int]:
        """Returns the (width, height) that holds every picture, given the size of the first decoded one."""
        sides = zip(*self._sizes, (width, height), strict=True)
        largest = max(next(sides)), max(next(sides))
        return largest if largest[0] * largest[1] <= MAX_PIXELS else (width, height)


def _vp8_size(head: bytes) -> tuple[int, int] | None:
    """Reads the picture size from a VP8 key frame's header (RFC 6386, 9.1)."""
    if len(head) < 10 or head[0] & 1 or head[3:6] != b"\x9d\x01\x2a":
        return None
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def _vp9_size(head: bytes) -> tuple[int, int] | None:
    """Reads the picture size from a VP9 key frame's header (VP9 Bitstream Specification, 6.2)."""
    bits = "".join(f"{byte:08b}" for byte in head)
    profile = int(bits[3] + bits[2], 2)
    place = 5 if profile == 3 else 4
    if bits[:2] != "10" or bits[place : place + 2] != "00":
        return None  # a repeated frame, or not a key frame
    place += 4
    if int(bits[place : place + 24], 2) != 0x498342:
        return None
    place += 24 + (profile >= 2)
    srgb = bits[place : place + 3] == "111"
    place += 3 + (0 if srgb else 1) + (3 if profile in (1, 3) and not srgb else 1 if profile in (1, 3) else 0)
    return int(bits[place : place + 16], 2) + 1, int(bits[place + 16 : place + 32], 2) + 1


class PictureMaker:
    """Converts decoded frames to upright H×W×3 uint8 RGB pictures with square pixels, all of one size.

    Args:
        aspect: width ÷ height of one stored pixel.
        orientation: orientation of the stream, read once because reading it from a frame keeps that frame alive.
        size: upright (width, height) of all pictures. A frame of another size is scaled down if it doesn't fit, and
            padded with black.

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
        """Converts one frame."""
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
