"""Small files that unpack to much: a scan needs bounded time and memory, and ends in a clean error or finds no face."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

import av

from tests.torture.boxes import (
    Movie,
    element,
    ftyp,
    gray_png,
    jpeg,
    matroska,
    matroska_cluster,
    matroska_track,
    sparse_gif,
)
from tests.torture.case import Outcome, case
from tests.torture.encoding import Encoding, encoded_bytes, repeat
from tests.torture.pictures import head_clip, plain

if TYPE_CHECKING:
    from pathlib import Path

_NOTE = "bounded memory and time; a clean error, or no face"
HUGE = (16000, 16000)
BLACK = (0, 0, 0)


@cache
def huge_png() -> bytes:
    """256 million black pixels."""
    return gray_png(HUGE)


@case("k_gif_bomb_16000x16000_5000f.gif", Outcome.ERROR, _NOTE)
def gif_bomb(place: Path) -> None:
    place.write_bytes(sparse_gif(HUGE, 5000))


@case("k_png_bomb_16000x16000_1000f.mov", Outcome.ERROR, _NOTE)
def png_movie(place: Path) -> None:
    place.write_bytes(Movie(HUGE, b"png ", [huge_png()], count=1000).to_bytes())


@case("k_png_bomb_as.mp4", Outcome.ERROR, _NOTE)
def png_renamed(place: Path) -> None:
    place.write_bytes(huge_png())


@case(
    "k_2M_frames_16x16.mp4",
    Outcome.ERROR,
    "an 8 MB file of two million samples that share one JPEG",
    frames=2_000_000,
)
def two_million_frames(place: Path) -> None:
    size = (16, 16)
    place.write_bytes(Movie(size, b"jpeg", [jpeg(plain(BLACK, size))], count=2_000_000).to_bytes())


@case("k_mkv_zlib_raw_12000x12000.mkv", Outcome.ERROR, "20 raw pictures of 432 MB, each packed by zlib to 420 kB")
def deflated_pictures(place: Path) -> None:
    side = 12000
    packer = zlib.compressobj(9)
    row = bytes(side * 3)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    raw_rgb = element("2EB524", b"BGR\x18")
    track = matroska_track(1, (side, side), "V_UNCOMPRESSED", color=raw_rgb, deflated=True)
    place.write_bytes(matroska([track], [matroska_cluster(number * 40, packed) for number in range(20)], 800))


@case("k_header_claims_65535.mp4", Outcome.OK, "the header says 65535×65535, the JPEG 640×360, which counts")
def boastful_header(place: Path) -> None:
    place.write_bytes(Movie((65535, 65535), b"jpeg", [jpeg(head_clip()[0])], count=25).to_bytes())


@case("k_8k_black_3000f.mp4", Outcome.NO_FACES, "7680×4320, black, in a small file", frames=3000, faces=False)
def black_8k(place: Path) -> None:
    options = {"crf": "40", "bf": "0", "g": "300"}
    black = av.VideoFrame.from_ndarray(plain(BLACK, (7680, 4320)), "rgb24").reformat(format="yuv420p")
    clip = encoded_bytes(".mp4", [black] * 30, Encoding("libx264", options))
    repeat(place, clip, 100)


@case("k_20000_streams.mkv", Outcome.NO_FACES, "20 000 video tracks, of which FFmpeg keeps 1000, and one picture")
def many_tracks(place: Path) -> None:
    size = (64, 64)
    tracks = [matroska_track(number, size, "V_MJPEG") for number in range(1, 20_001)]
    place.write_bytes(matroska(tracks, [matroska_cluster(0, jpeg(plain(BLACK, size)))]))


@case("k_nested_moov_depth.mp4", Outcome.ERROR, "100 000 boxes one in another")
def nested_boxes(place: Path) -> None:
    depth, header = 100_000, 8
    kinds = [b"moov", *[b"trak"] * (depth - 1)]
    boxes = [struct.pack(">I4s", (depth - level) * header, kind) for level, kind in enumerate(kinds)]
    place.write_bytes(ftyp() + b"".join(boxes))
