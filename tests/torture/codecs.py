"""Codecs and containers that a reader must know: the same talking head in each.

Theora is left out: the FFmpeg that PyAV bundles can read it, but not write it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from PIL import Image

from tests.torture.case import Outcome, add_case, case
from tests.torture.encoding import H264, Encoding, Track, encode, head_writer, remux
from tests.torture.pictures import COUNT, STEADY, small_head
from tests.torture.sources import plain, tone

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.pictures import Pixels

HEVC = Encoding("libx265", codec_tag="hvc1")
# Two threads of libvpx spin for five times as long as one.
VP8 = Encoding("libvpx", {"b": "1M", "threads": "1"})
VP9 = Encoding("libvpx-vp9", {"b": "1M"})
# Faster presets move blocks so wrongly that the burnt-in index is misread.
AV1 = Encoding("libsvtav1", {"crf": "35", "preset": "10"})
MPEG2 = Encoding("mpeg2video", container="vob")

_ENCODINGS = {
    "a_h264.mp4": H264,
    "a_h264.mkv": H264,
    "a_h264.mov": H264,
    "a_h264.avi": dataclasses.replace(H264, options={**H264.options, "bf": "0"}),
    "a_h264.flv": H264,
    "a_h264.ts": H264,
    "a_hevc.mp4": HEVC,
    "a_vp8.webm": VP8,
    "a_vp9.webm": VP9,
    "a_av1.mp4": AV1,
    "a_av1.mkv": AV1,
    "a_mpeg4.avi": Encoding("mpeg4", codec_tag="XVID"),
    "a_mpeg4.mp4": Encoding("mpeg4"),
    "a_mjpeg.avi": Encoding("mjpeg", {"qmin": "3", "qmax": "3"}, pixel_format="yuvj420p"),
    "a_prores.mov": Encoding("prores_ks", {"profile": "2"}, pixel_format="yuv422p10le"),
    "a_dnxhr.mov": Encoding("dnxhd", {"profile": "dnxhr_lb"}, pixel_format="yuv422p"),
    "a_mpeg2.mpg": MPEG2,
    "a_flv1.flv": Encoding("flv", {"b": "4M"}),
    "a_wmv2.wmv": Encoding("wmv2", {"b": "4M"}),
    "a_ffv1.mkv": Encoding("ffv1"),
    "a_fragmented.mp4": dataclasses.replace(
        H264,
        options={**H264.options, "g": "25"},
        container_options={"movflags": "+frag_keyframe+empty_moov+default_base_moof"},
    ),
    "a_3gp.3gp": H264,
    "a_mxf.mxf": Encoding("mpeg2video", pixel_format="yuv422p"),
    "a_UPPERCASE.MP4": dataclasses.replace(H264, container="mp4"),
    "a_no_extension": dataclasses.replace(H264, container="mp4"),
}

for _name, _encoding in _ENCODINGS.items():
    add_case(_name, Outcome.OK, head_writer(_encoding), **STEADY)

add_case(
    "a_mkv_named.avi",
    Outcome.OK,
    head_writer(dataclasses.replace(H264, container="matroska")),
    "content is Matroska",
    **STEADY,
)
add_case(
    "a_elementary.h264",
    Outcome.OK,
    head_writer(Encoding("libx264", {"crf": "20", "bf": "2"})),
    "no timestamps in the file: 25 frames a second are made up",
    **STEADY,
)
add_case("a_elementary.hevc", Outcome.OK, head_writer(Encoding("libx265")), "no timestamps in the file", **STEADY)


def _small_pictures() -> list[Pixels]:
    return [small_head(index) for index in range(COUNT)]


@case("a_raw.y4m", Outcome.OK, **STEADY)
def raw(place: Path) -> None:
    encode(place, _small_pictures(), Encoding("wrapped_avframe"))


@case("a_apng.apng", Outcome.OK, **STEADY)
def animated_png(place: Path) -> None:
    encode(
        place,
        _small_pictures(),
        Encoding("apng", pixel_format="rgb24", container_options={"plays": "0"}),
    )


@case("a_gif.gif", Outcome.OK, **STEADY)
def animated_gif(place: Path) -> None:
    pictures = [Image.fromarray(picture) for picture in _small_pictures()]
    palette = pictures[0].quantize(256)
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    first.save(place, save_all=True, append_images=others, duration=40, loop=0)


@case("a_webp_anim.webp", Outcome.OK, "animated WebP, which FFmpeg reads since version 8", frames=10, faces=True)
def animated_webp(place: Path) -> None:
    first, *others = [Image.fromarray(small_head(number * 5)) for number in range(10)]
    first.save(place, save_all=True, append_images=others, duration=200, loop=0)


@case("a_with_audio.mp4", Outcome.OK, **STEADY)
def with_audio(place: Path) -> None:
    remux(place, [Track(plain(".mp4")), Track(tone(".m4a"))])
