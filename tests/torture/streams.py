"""Which streams a file has: no video, cover art, several videos, subtitles, an unknown codec, encryption."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from av.stream import Disposition

from tests.torture.boxes import Movie, jpeg
from tests.torture.case import Outcome, add_case, case
from tests.torture.encoding import H264, Track, encode_tone, encoded_bytes, head_writer, remux, tone_bytes
from tests.torture.pictures import COUNT, SIZE, STEADY, color_bars, head_clip, talking_head
from tests.torture.sources import plain, tone

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.case import Writer

SUBTITLES = b"1\n00:00:00,000 --> 00:00:04,000\nhello\n\n"
SONG_S = 3.0


def tone_writer(codec: str) -> Writer:
    """A writer of a tone."""

    def write(place: Path) -> None:
        encode_tone(place, SONG_S, codec)

    return write


def cover() -> Track:
    """A picture that belongs to a file rather than being a video in it."""
    picture = jpeg(talking_head(3, marked=False))
    return Track(picture, container="jpeg_pipe", disposition=Disposition.attached_pic)


add_case("e_audio_only.mp3", Outcome.ERROR, tone_writer("libmp3lame"), "no video stream")
add_case("e_audio_only.mp4", Outcome.ERROR, tone_writer("aac"), "no video stream")
add_case("e_audio.wav", Outcome.ERROR, tone_writer("pcm_s16le"))


@case("e_cover_art.mp3", Outcome.ERROR, "cover art only: a song is not a video")
def song_with_cover(place: Path) -> None:
    remux(place, [Track(tone_bytes(".mp3", SONG_S, "libmp3lame")), cover()])


@case("e_cover_art.m4a", Outcome.ERROR, "cover art only")
def aac_song_with_cover(place: Path) -> None:
    remux(place, [Track(tone_bytes(".m4a", SONG_S, "aac")), cover()], container="mp4")


@case("e_cover_first_then_video.mp4", Outcome.OK, "the first video stream may be the cover", **STEADY)
def cover_first(place: Path) -> None:
    remux(place, [cover(), Track(plain(".mp4"))])


@case("e_two_video_streams.mkv", Outcome.OK, "color bars first, then the face, which is the default", **STEADY)
def two_videos(place: Path) -> None:
    bars = encoded_bytes(".mp4", [color_bars()] * COUNT)
    remux(place, [Track(bars, disposition=Disposition(0)), Track(plain(".mp4"), disposition=Disposition.default)])


@case("e_subs_data.mkv", Outcome.OK, "sound and subtitles too", **STEADY)
def with_subtitles(place: Path) -> None:
    remux(place, [Track(plain(".mp4")), Track(tone(".m4a")), Track(SUBTITLES, container="srt")])


@case("e_subtitles_only.srt", Outcome.ERROR)
def subtitles_only(place: Path) -> None:
    place.write_bytes(SUBTITLES)


@case("e_unknown_codec.mp4", Outcome.ERROR, "a codec called zzzz")
def unknown_codec(place: Path) -> None:
    place.write_bytes(Movie(SIZE, b"zzzz", [jpeg(head_clip()[0])], count=50).to_bytes())


add_case(
    "e_encrypted_cenc.mp4",
    Outcome.ERROR,
    head_writer(
        dataclasses.replace(
            H264,
            container_options={
                "encryption_scheme": "cenc-aes-ctr",
                "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
                "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
            },
        )
    ),
    "encrypted, without a key: pictures are noise or errors, on which no verdict may rest",
)
