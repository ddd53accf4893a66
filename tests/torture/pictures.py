"""Pictures of the set: a talking head with its index burnt in, color patches, a crowd, noise and plain colors.

All are H×W×3 uint8 RGB arrays. The face is ``skimage.data.astronaut()``, a portrait in the public domain.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.clips import burn_barcode
from tests.portraits import portrait
from tests.torture.case import Facts, steady

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

#: The talking head of most cases: 5 s at 25 frames a second.
SIZE: Size = (640, 360)
RATE = 25
COUNT = 125

#: The small one of the cases that are about something else than the picture, such as the file's name: 2 s.
SMALL_SIZE: Size = (320, 180)
SMALL_COUNT = 50
#: Height of its portrait: the face is about 50 pixels wide, large enough to be looked for.
SMALL_SIDE = 288

#: The facts about them.
STEADY: Facts = {
    "frames": COUNT,
    "duration_s": COUNT / RATE,
    "fps": Fraction(RATE),
    "first_time_s": 0.0,
    "frame_time": steady(RATE),
    "faces": True,
}
SMALL: Facts = {**STEADY, "frames": SMALL_COUNT, "duration_s": SMALL_COUNT / RATE}

#: Colors of the patches at the top left, which show wrong matrices and ranges.
PATCHES = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128))

#: Center and half axes of the mouth in the 512×512 portrait; it opens by up to 6 pixels.
_MOUTH_CENTER = (226.0, 167.0)
_MOUTH_HALF_WIDTH = 14.0
_PORTRAIT_SIDE = 512


def talking_head(
    index: float,
    size: Size = SIZE,
    *,
    rate: float = RATE,
    side: int | None = None,
    center: tuple[float, float] | None = None,
    with_face: bool = True,
    marked: bool = True,
    blur: float = 0.0,
) -> Pixels:
    """A person who sways, comes nearer, goes back and speaks.

    Args:
        index: of the picture; between two whole numbers for the second field of an interlaced one.
        size: (width, height).
        rate: pictures a second.
        side: height of the portrait in pixels, of which the face is about a fifth; the picture's height by default.
        center: mean (x, y) of the portrait; by default such that the face is above the middle of the picture.
        with_face: whether anyone is there.
        marked: whether the patches and the index are burnt in.
        blur: standard deviation in pixels.
    """
    width, height = size
    picture = _backdrop(size).copy()
    time_s = index / rate
    if with_face:
        nominal = side or height
        zoom = 1 + 0.06 * math.sin(time_s * 1.3)
        x, y = center or (width / 2, 0.26 * height + 0.27 * nominal)
        x += 0.12 * width * math.sin(time_s * 0.9) - nominal * zoom / 2
        y += 0.03 * height * math.sin(time_s * 2.1) - nominal * zoom / 2
        head = _speaking(nominal, opening=3 + 3 * math.sin(time_s * 9))
        if blur:
            head = np.asarray(cv2.GaussianBlur(head, (0, 0), blur), np.uint8)
        place = np.array([[zoom, 0, x], [0, zoom, y]])
        cv2.warpAffine(head, place, size, dst=picture, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
    return mark(picture, int(index)) if marked else picture


def small_head(index: int, *, rate: float = RATE, with_face: bool = True, marked: bool = True) -> Pixels:
    """The talking head in a small picture that shows her from nearer."""
    return talking_head(index, SMALL_SIZE, rate=rate, side=SMALL_SIDE, with_face=with_face, marked=marked)


def mark(picture: Pixels, index: int) -> Pixels:
    """Burns the patches and an index into a picture, in place, and returns it."""
    side = max(4, picture.shape[1] // 20)
    for number, color in enumerate(PATCHES):
        picture[:side, number * side : (number + 1) * side] = color
    return burn_barcode(picture, index)


@cache
def head_clip() -> tuple[Pixels, ...]:
    """The 125 pictures of the talking head; not to be written into."""
    return tuple(talking_head(index) for index in range(COUNT))


@cache
def small_head_clip() -> tuple[Pixels, ...]:
    """The 50 pictures of the small talking head; not to be written into."""
    return tuple(small_head(index) for index in range(SMALL_COUNT))


def scaled(picture: Pixels, size: Size) -> Pixels:
    """A picture in another (width, height), whatever the shape."""
    interpolation = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)


def crowd(index: int, size: Size, columns: int, rows: int, cell: int) -> Pixels:
    """Faces in a grid, every other one mirrored, each of about ``cell`` pixels and breathing at its own pace."""
    width, height = size
    picture = _backdrop(size).copy()
    face = portrait()[0:220, 120:340]
    for row in range(rows):
        for column in range(columns):
            side = int(cell * (0.92 + 0.05 * math.sin(index / 9 + row + 2 * column)))
            left = int((column + 0.5) * width / columns - side / 2)
            top = int((row + 0.5) * height / rows - side / 2)
            looks = face if (row + column) % 2 == 0 else np.ascontiguousarray(face[:, ::-1])
            _paste(picture, scaled(looks, (side, side)), left, top)
    return picture


def close_up(index: int) -> Pixels:
    """A face that is larger than the picture, and drifts."""
    left = 150 + index // 10
    width, height = SIZE
    face = scaled(portrait()[40:190, left : left + 150], (width, width))
    return np.ascontiguousarray(face[120 : 120 + height])


def noise(seed: int, size: Size = SIZE) -> Pixels:
    """Uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def plain(color: tuple[int, int, int], size: Size = SIZE) -> Pixels:
    """One color."""
    return np.full((size[1], size[0], 3), color, np.uint8)


def color_bars(size: Size = SIZE) -> Pixels:
    """Seven bars of 75 % saturation, over a strip of gray steps."""
    width, height = size
    bars = np.array([[r, g, b] for g in (191, 0) for r in (191, 0) for b in (191, 0)], np.uint8)[:7]
    picture = bars[np.arange(width) * len(bars) // width][np.newaxis].repeat(height, axis=0)
    steps = (np.arange(width) * 8 // width * 36).astype(np.uint8)
    picture[height * 3 // 4 :] = steps[:, np.newaxis]
    return np.ascontiguousarray(picture)


@lru_cache(maxsize=4)
def _backdrop(size: Size) -> Pixels:
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + 60 * x / width, 80 + 50 * y / height, 110 + 30 * np.sin(x / 40)], -1).astype(np.uint8)


@cache
def _portrait(side: int) -> Pixels:
    return scaled(portrait(), (side, side))


def _speaking(side: int, opening: float) -> Pixels:
    """The portrait at a size, with the mouth open by some pixels of the full-size one."""
    head = _portrait(side).copy()
    scale = side / _PORTRAIT_SIDE
    center = (_MOUTH_CENTER[0] * scale, (_MOUTH_CENTER[1] + opening / 4) * scale)
    axes = (_MOUTH_HALF_WIDTH * scale, (1 + 0.75 * opening) * scale)
    fixed_point = 1 << 4
    cv2.ellipse(
        head,
        tuple(round(value * fixed_point) for value in center),
        tuple(round(value * fixed_point) for value in axes),
        angle=0,
        startAngle=0,
        endAngle=360,
        color=(90, 30, 35),
        thickness=-1,
        lineType=cv2.LINE_AA,
        shift=4,
    )
    return head


def _paste(picture: Pixels, patch: Pixels, left: int, top: int) -> None:
    height, width = patch.shape[:2]
    picture[max(top, 0) : top + height, max(left, 0) : left + width] = patch[
        max(-top, 0) : picture.shape[0] - top, max(-left, 0) : picture.shape[1] - left
    ]
