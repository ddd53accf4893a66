"""Shapes: turned and mirrored by a matrix, squeezed pixels, interlaced, odd, tiny and huge sizes, sizes that change."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tests.clips import burn_barcode, display_matrix, set_display_matrix
from tests.torture.case import Facts, Outcome, add_case, case
from tests.torture.encoding import H264, Encoding, encode, encoded_bytes
from tests.torture.pictures import COUNT, RATE, SIZE, STEADY, head_clip, mark, scaled, talking_head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.torture.case import Writer
    from tests.torture.pictures import Pixels, Size

WIDTH, HEIGHT = SIZE
ODD: Size = (639, 361)
FFV1 = Encoding("ffv1")


def size_writer(size: Size, encoding: Encoding = H264) -> Writer:
    """A writer of the talking head scaled to a size as it is stored."""

    def write(place: Path) -> None:
        encode(place, (scaled(picture, size) for picture in head_clip()), encoding)

    return write


# --- display matrices


def turned_writer(rotation: int) -> Writer:
    """A writer of what a phone that was turned stores: the matrix brings the picture upright."""

    def write(place: Path) -> None:
        quarters = rotation // 90
        encode(place, (np.rot90(picture, quarters) for picture in head_clip()))
        set_display_matrix(place, display_matrix(rotation))

    return write


def matrix_writer(matrix: Sequence[float]) -> Writer:
    """A writer of upright pictures with any matrix."""

    def write(place: Path) -> None:
        encode(place, head_clip())
        set_display_matrix(place, matrix)

    return write


for _rotation in (90, 180, 270):
    add_case(
        f"c_rot{_rotation}.mp4",
        Outcome.OK,
        turned_writer(_rotation),
        "upright only once the display matrix is applied",
        rotation=_rotation,
        size=SIZE,
        **STEADY,
    )


@case("c_matrix_hflip.mp4", Outcome.OK, "mirrored: FFmpeg's rotation reads 180, but it isn't one", **STEADY)
def mirrored(place: Path) -> None:
    encode(place, (picture[:, ::-1] for picture in head_clip()))
    set_display_matrix(place, display_matrix(0, mirrored=True))


_EIGHTH_TURN = math.sqrt(0.5)
add_case(
    "c_matrix_garbage.mp4",
    Outcome.OK,
    matrix_writer([0] * 9),
    "a matrix of zeros: its rotation is not a number",
    **STEADY,
)
add_case(
    "c_matrix_45deg.mp4",
    Outcome.OK,
    matrix_writer([_EIGHTH_TURN, _EIGHTH_TURN, 0, -_EIGHTH_TURN, _EIGHTH_TURN, 0, 0, 0, 1]),
    "turned by 45 degrees: to be ignored or rounded",
    **STEADY,
)

# --- pixels that aren't square, and lines of two instants

add_case(
    "c_sar_2to1.mp4",
    Outcome.OK,
    size_writer((WIDTH // 2, HEIGHT), dataclasses.replace(H264, aspect=Fraction(2))),
    "stored at half the width, shown at all of it: faces are squeezed unless that is undone",
    size=SIZE,
    **STEADY,
)
add_case(
    "c_sar_garbage.mp4",
    Outcome.OK,
    size_writer(SIZE, dataclasses.replace(H264, aspect=Fraction(1, 250))),
    "pixels 250 times as high as wide",
    **STEADY,
)


@case("c_interlaced.ts", Outcome.OK, "two fields, the upper one first: motion is combed", **STEADY)
def interlaced(place: Path) -> None:
    options = {"crf": "20", "flags": "+ilme+ildct", "x264-params": "tff=1"}
    encode(place, _woven_pictures(), Encoding("libx264", options))


def _woven_pictures() -> Iterator[Pixels]:
    for index in range(COUNT):
        woven = head_clip()[index].copy()
        woven[1::2] = talking_head(index + 0.5)[1::2]
        yield burn_barcode(woven, index)


# --- sizes

add_case("c_odd_639x361.webm", Outcome.OK, size_writer(ODD, Encoding("libvpx-vp9")), **STEADY)
add_case(
    "c_odd_639x361_444.mp4",
    Outcome.OK,
    size_writer(ODD, dataclasses.replace(H264, pixel_format="yuv444p")),
    **STEADY,
)

FACELESS: Facts = {"frames": COUNT, "duration_s": COUNT / RATE, "faces": False}
add_case(
    "c_16x16.mp4",
    Outcome.NO_FACES,
    size_writer((16, 16)),
    "MTCNN raises on pictures smaller than its smallest face",
    **FACELESS,
)
add_case("c_2x2.mkv", Outcome.NO_FACES, size_writer((2, 2), FFV1), **FACELESS)
add_case(
    "c_1x1.mkv",
    Outcome.NO_FACES,
    size_writer((1, 1), dataclasses.replace(FFV1, pixel_format="gray")),
    **FACELESS,
)
add_case("c_wide_4096x16.mp4", Outcome.NO_FACES, size_writer((4096, 16)), **FACELESS)


@case("c_vertical_1080x1920.mp4", Outcome.OK, frames=25, duration_s=1.0, faces=True)
def vertical(place: Path) -> None:
    encode(place, (talking_head(index, (1080, 1920), side=1080) for index in range(25)))


@case("c_8k_single_frame.mp4", Outcome.OK, "7680×4320: 100 MB as RGB", frames=1, faces=True)
def one_8k_frame(place: Path) -> None:
    encode(place, [scaled(head_clip()[0], (7680, 4320))])


@case("c_4k_50frames.mp4", Outcome.OK, frames=50, faces=True)
def short_4k(place: Path) -> None:
    encode(place, (scaled(picture, (3840, 2160)) for picture in head_clip()[:50]))


# --- a size that changes

CHANGE_AT = 60
NARROW: Size = (320, 240)
CHANGED: Facts = {**STEADY, "fps": None}


def changing(suffix: str) -> bytes:
    """60 pictures of 640×360 and then 65 of 320×240, one stream after the other."""
    later = dataclasses.replace(H264, container_options={"output_ts_offset": str(CHANGE_AT / RATE)})
    narrow = (mark(scaled(head_clip()[index], NARROW), index) for index in range(CHANGE_AT, COUNT))
    return encoded_bytes(suffix, head_clip()[:CHANGE_AT]) + encoded_bytes(suffix, narrow, later)


@case("c_resolution_change.h264", Outcome.OK, "640×360, then 320×240, in one stream", **CHANGED)
def changing_stream(place: Path) -> None:
    place.write_bytes(changing(".h264"))


@case("c_resolution_change.ts", Outcome.OK, "640×360, then 320×240, while the clock goes on", **CHANGED)
def changing_transport_stream(place: Path) -> None:
    place.write_bytes(changing(".ts"))
