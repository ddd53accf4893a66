"""Sound files of odd content: no face, many faces, faces for an instant, small, huge, at the edge, blurred."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tests.torture.case import Facts, Outcome, add_case, case
from tests.torture.encoding import Encoding, encode
from tests.torture.pictures import (
    COUNT,
    RATE,
    SIZE,
    close_up,
    color_bars,
    crowd,
    head_clip,
    noise,
    plain,
    small_head,
    talking_head,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.case import Writer
    from tests.torture.pictures import Pixels


def timed(frames: int) -> Facts:
    """The facts about a number of frames at the usual rate."""
    return {"frames": frames, "duration_s": frames / RATE, "fps": Fraction(RATE), "first_time_s": 0.0}


def still_writer(picture: Pixels) -> Writer:
    """A writer of 5 s of one picture."""

    def write(place: Path) -> None:
        encode(place, [picture] * COUNT)

    return write


# --- no face

add_case("h_no_face_bars.mp4", Outcome.NO_FACES, still_writer(color_bars()), faces=False, **timed(COUNT))
add_case("h_black.mp4", Outcome.NO_FACES, still_writer(plain((0, 0, 0))), faces=False, **timed(COUNT))
add_case("h_white.mp4", Outcome.NO_FACES, still_writer(plain((255, 255, 255))), faces=False, **timed(COUNT))


@case("h_noise.mp4", Outcome.NO_FACES, "noise floods MTCNN with candidates", faces=False, **timed(RATE))
def noisy(place: Path) -> None:
    encode(place, (noise(seed) for seed in range(RATE)), Encoding("libx264", {"crf": "10"}))


# --- faces for an instant


@case(
    "h_face_last_second.mp4",
    Outcome.OK,
    "a face from 29 to 30 s only: even sampling must not miss it in silence",
    faces=True,
    **timed(30 * RATE),
)
def last_second(place: Path) -> None:
    first = 29 * RATE
    encode(place, (small_head(index, with_face=index >= first) for index in range(30 * RATE)))


@case(
    "h_face_one_frame.mp4",
    Outcome.NO_FACES,
    "one picture of 250 has a face: the samples miss it",
    **timed(250),
)
def single_picture(place: Path) -> None:
    encode(place, (small_head(index, with_face=index == 137) for index in range(250)))


@case("h_fast_cuts.mp4", Outcome.OK, faces=True, **timed(COUNT))
def fast_cuts(place: Path) -> None:
    encode(place, (talking_head(index, with_face=(index // 3) % 2 == 0) for index in range(COUNT)))


@case("h_still_photo.mp4", Outcome.OK, "a slide show: one picture 125 times", faces=True, **timed(COUNT))
def still_photo(place: Path) -> None:
    encode(place, [talking_head(0, marked=False)] * COUNT)


# --- how many, how large, where, how sharp


@case("h_two_faces.mp4", Outcome.OK, faces=True, people=2, **timed(50))
def two_faces(place: Path) -> None:
    encode(place, (crowd(index, SIZE, columns=2, rows=1, cell=260) for index in range(50)))


@case("h_hundred_faces.mp4", Outcome.OK, faces=True, people=100, **timed(25))
def hundred_faces(place: Path) -> None:
    encode(place, (crowd(index, (1920, 1080), columns=10, rows=10, cell=104) for index in range(25)))


@case("h_tiny_face.mp4", Outcome.NO_FACES, "about 12 pixels", **timed(50))
def tiny_face(place: Path) -> None:
    encode(place, (talking_head(index, side=70) for index in range(50)))


@case("h_huge_face.mp4", Outcome.OK, "fills the picture: its box reaches outside", faces=True, **timed(50))
def huge_face(place: Path) -> None:
    encode(place, (close_up(index) for index in range(50)))


@case("h_half_face_edge.mp4", Outcome.OK, "half outside the left edge: negative coordinates", **timed(50))
def face_at_edge(place: Path) -> None:
    encode(place, (talking_head(index, center=(30, SIZE[1] * 0.53)) for index in range(50)))


@case("h_blurred_face.mp4", Outcome.NO_FACES, **timed(50))
def blurred_face(place: Path) -> None:
    encode(place, (talking_head(index, blur=7) for index in range(50)))


@case("h_upside_down.mp4", Outcome.OK_WARN, "really stored upside down: no header says so", **timed(50))
def upside_down(place: Path) -> None:
    encode(place, (np.ascontiguousarray(picture[::-1, ::-1]) for picture in head_clip()[:50]))
