"""Times: odd rates, late starts, clocks that jump, edit lists, rare key frames, and headers that lie about length."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

from tests.clips import write_clip
from tests.torture.boxes import Movie, jpeg, motion_jpeg_matroska
from tests.torture.case import Facts, Outcome, add_case, case, steady
from tests.torture.encoding import (
    BITEXACT_CONTAINER,
    H264,
    Encoding,
    Track,
    encode,
    encoded_bytes,
    head_writer,
    remux,
    repeat,
)
from tests.torture.pictures import COUNT, RATE, SIZE, STEADY, head_clip, mark, small_head, talking_head
from tests.torture.sources import plain, tone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.torture.case import FrameTime, Writer
    from tests.torture.pictures import Pixels

HOUR_S = 3600
ELEVEN_DAYS_MS = 10**9
SMALL_HEAD: Facts = {"first_time_s": 0.0, "faces": True}


def starting_at(start_s: int, encoding: Encoding = H264) -> Encoding:
    """The encoding with its times shifted."""
    return dataclasses.replace(encoding, container_options={"output_ts_offset": str(start_s)})


def small_writer(count: int, fps: Fraction | int) -> Writer:
    """A writer of the small talking head at a frame rate, at which it moves as fast as ever."""

    def write(place: Path) -> None:
        pictures = (small_head(index, rate=float(fps)) for index in range(count))
        encode(place, pictures, dataclasses.replace(H264, fps=fps))

    return write


# --- rates


def variable_time(index: int) -> float:
    """25 frames a second for 2 s, 5 for 5 s, 100 for half a second."""
    if index < 50:
        return index / 25
    if index < 75:
        return 2 + (index - 50) / 5
    return 7 + (index - 75) / 100


VARIABLE: Facts = {
    "frames": COUNT,
    "duration_s": 7.5,
    "first_time_s": 0.0,
    "frame_time": variable_time,
    "faces": True,
}


def write_variable(place: Path) -> None:
    times_s = [variable_time(index) for index in range(COUNT)]
    write_clip(place, head_clip(), times_s=times_s, container_options=BITEXACT_CONTAINER)


for _name in ("d_vfr.mp4", "d_vfr.mkv"):
    add_case(_name, Outcome.OK, write_variable, "index / fps is wrong by up to 3 s", **VARIABLE)

add_case(
    "d_240fps.mp4",
    Outcome.OK,
    small_writer(480, 240),
    **{**SMALL_HEAD, "frames": 480, "duration_s": 2.0, "fps": Fraction(240), "frame_time": steady(240)},
)
add_case(
    "d_1fps.mp4",
    Outcome.OK,
    small_writer(20, 1),
    **{**SMALL_HEAD, "frames": 20, "duration_s": 20.0, "fps": Fraction(1), "frame_time": steady(1)},
)
NTSC = Fraction(30000, 1001)
add_case(
    "d_ntsc_29.97.mp4",
    Outcome.OK,
    small_writer(150, NTSC),
    **{**SMALL_HEAD, "frames": 150, "fps": NTSC, "frame_time": steady(NTSC)},
)


@case(
    "d_1_per_minute.mp4",
    Outcome.OK,
    frames=5,
    duration_s=300.0,
    frame_time=steady(Fraction(1, 60)),
    **SMALL_HEAD,
)
def one_a_minute(place: Path) -> None:
    pictures = (small_head(index, rate=1) for index in range(5))
    encode(place, pictures, dataclasses.replace(H264, fps=Fraction(1, 60)))


@case("d_one_frame.mp4", Outcome.OK, frames=1, faces=True)
def one_frame(place: Path) -> None:
    encode(place, head_clip()[:1])


@case("d_two_frames.mp4", Outcome.OK, frames=2, faces=True)
def two_frames(place: Path) -> None:
    encode(place, head_clip()[:2])


# --- starts, jumps and cuts

add_case(
    "d_start_1h.ts",
    Outcome.OK,
    head_writer(starting_at(HOUR_S)),
    "times in the file start at 3600 s; the user's start at 0",
    **STEADY,
)
add_case(
    "d_pts_wrap.ts",
    Outcome.OK,
    head_writer(starting_at(95440)),
    "the 33-bit clock of MPEG-TS wraps inside the clip",
    **STEADY,
)


@case("d_discontinuity.ts", Outcome.OK, "two takes: the clock jumps from 3605 s back to 10 s", frames=250, faces=True)
def two_takes(place: Path) -> None:
    takes = [encoded_bytes(".ts", head_clip(), starting_at(start_s)) for start_s in (HOUR_S, 10)]
    place.write_bytes(b"".join(takes))


@case("d_edit_trim.mp4", Outcome.OK, "cut at 1.5 s by copying: an edit list hides the pre-roll", faces=True)
def trimmed(place: Path) -> None:
    clip = encoded_bytes(".mp4", head_clip(), Encoding("libx264", {"crf": "20", "g": "50", "bf": "2"}))
    remux(place, [Track(clip, shift_s=Fraction(-3, 2))])


@case("d_edit_delay.mp4", Outcome.OK, "the video starts 2 s after the audio: an empty edit", frames=COUNT, faces=True)
def delayed(place: Path) -> None:
    remux(place, [Track(plain(".mp4"), shift_s=2), Track(tone(".m4a"))])


@case("d_hevc_open_gop_cut.ts", Outcome.OK_WARN, "starts amid a group: leading packets can't be decoded", faces=True)
def cut_group(place: Path) -> None:
    parameters = "log-level=none:open-gop=1:keyint=40:bframes=4:repeat-headers=1"
    clip = encoded_bytes(".ts", head_clip(), Encoding("libx265", {"x265-params": parameters}))
    packet = 188
    place.write_bytes(clip[len(clip) // 4 // packet * packet :])


add_case(
    "d_bframes_open_gop.mp4",
    Outcome.OK,
    head_writer(
        Encoding("libx264", {"preset": "fast", "x264-params": "open-gop=1:bframes=4:b-pyramid=normal:keyint=40"})
    ),
    **STEADY,
)
add_case(
    "d_keyframes_only.mp4",
    Outcome.OK,
    head_writer(dataclasses.replace(H264, options={**H264.options, "g": "1"})),
    **STEADY,
)


@case(
    "d_gop_5min_single_key.mp4",
    Outcome.OK,
    "one key frame: every seek lands on 0",
    **{**STEADY, "frames": 7500, "duration_s": 300.0},
)
def single_key_frame(place: Path) -> None:
    options = {"crf": "30", "g": "100000", "keyint_min": "100000", "sc_threshold": "0"}
    encode(place, _long_head(7500), Encoding("libx264", options))


def _long_head(count: int, period: int = 350) -> Iterator[Pixels]:
    loop = [small_head(index, marked=False) for index in range(period)]
    for index in range(count):
        yield mark(loop[index % period].copy(), index)


@case(
    "d_long_2h.mp4",
    Outcome.OK,
    "a minute of 128×72, 120 times",
    frames=180_000,
    duration_s=7200.0,
    fps=Fraction(RATE),
    first_time_s=0.0,
    faces=True,
)
def two_hours(place: Path) -> None:
    pictures = (talking_head(index, (128, 72), side=265, center=(81, 109), marked=False) for index in range(60 * RATE))
    minute = encoded_bytes(".mp4", pictures, Encoding("libx264", {"crf": "34", "g": "250", "bf": "0"}))
    repeat(place, minute, 120)


# --- no duration, and false ones

add_case(
    "d_live_no_duration.mkv",
    Outcome.OK,
    head_writer(dataclasses.replace(H264, container_options={"live": "1"})),
    "no duration and no index, as after a crash of a recorder",
    **STEADY,
)
add_case(
    "d_mediarecorder.webm",
    Outcome.OK,
    head_writer(Encoding("libvpx", {"threads": "1"}, container_options={"live": "1"})),
    "no duration, as browsers record",
    **STEADY,
)


@cache
def jpeg_head(count: int) -> tuple[bytes, ...]:
    """The first pictures of the talking head as JPEG files."""
    return tuple(jpeg(picture) for picture in itertools.islice(head_clip(), count))


TWO_SECONDS: Facts = {"frames": 50, "duration_s": 2.0, "faces": True}


def movie_writer(*, declared_duration: int | None = None, delta: int = 1000) -> Writer:
    """A writer of a QuickTime file of 50 JPEG pictures, with a lie."""

    def write(place: Path) -> None:
        movie = Movie(SIZE, b"jpeg", jpeg_head(50), delta=delta, declared_duration=declared_duration)
        place.write_bytes(movie.to_bytes())

    return write


def matroska_writer(count: int, time_ms: FrameTime, duration_ms: float) -> Writer:
    """A writer of a Matroska file of JPEG pictures at any times."""

    def write(place: Path) -> None:
        frames = [(int(time_ms(index)), picture) for index, picture in enumerate(jpeg_head(count))]
        place.write_bytes(motion_jpeg_matroska(SIZE, frames, duration_ms))

    return write


def _steady_ms(index: int) -> float:
    return index * 40


def _early_ms(index: int) -> float:
    return index * 40 - 1000


def _backward_ms(index: int) -> float:
    return index * 40 - (1000 if index >= 30 else 0)


def _gap_ms(index: int) -> float:
    return index * 40 + (ELEVEN_DAYS_MS if index >= 30 else 0)


@case("d_zero_frames.mp4", Outcome.ERROR, "a valid header, no samples", frames=0)
def no_frames(place: Path) -> None:
    place.write_bytes(Movie(SIZE, b"jpeg", []).to_bytes())


add_case(
    "d_duration_lies_10h.mp4",
    Outcome.OK,
    movie_writer(declared_duration=10 * HOUR_S * 25000),
    "the header says 10 h, the content is 2 s: sampling by the header's duration sees next to nothing",
    **TWO_SECONDS,
)
add_case(
    "d_duration_zero.mp4",
    Outcome.OK,
    movie_writer(declared_duration=0),
    "the header says 0",
    **TWO_SECONDS,
)
add_case(
    "d_all_same_pts.mp4",
    Outcome.OK,
    movie_writer(delta=0, declared_duration=50_000),
    "every picture is shown for no time: there is no time line",
    frames=50,
    faces=True,
)
add_case(
    "d_duration_lies_10h.mkv",
    Outcome.OK,
    matroska_writer(50, _steady_ms, 10.0 * HOUR_S * 1000),
    "the header says 10 h, the content is 2 s",
    **TWO_SECONDS,
)
add_case(
    "d_negative_start.mkv",
    Outcome.OK,
    matroska_writer(50, _early_ms, 2000),
    "the first block is at -1 s: FFmpeg gives the first 25 no time at all",
    **TWO_SECONDS,
)
add_case(
    "d_pts_backward.mkv",
    Outcome.OK,
    matroska_writer(60, _backward_ms, 2400),
    "times jump back by 1 s in the middle",
    frames=60,
    faces=True,
)
add_case(
    "d_pts_huge_gap.mkv",
    Outcome.OK,
    matroska_writer(60, _gap_ms, ELEVEN_DAYS_MS + 2400),
    "11 days between two frames: even sampling by duration sees two of them",
    frames=60,
    faces=True,
)


@case(
    "d_latin1_metadata.avi",
    Outcome.OK,
    "the title is not UTF-8, at which PyAV raises UnicodeDecodeError unless told otherwise",
    **STEADY,
)
def latin1_title(place: Path) -> None:
    title = b"Caf\xe9 \xfc\xff\x80"
    clip = encoded_bytes(".avi", head_clip(), Encoding("mpeg4", title="X" * len(title)))
    place.write_bytes(clip.replace(b"X" * len(title), title))
