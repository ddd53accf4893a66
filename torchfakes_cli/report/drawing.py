"""Drawing: lines, text, boxes and heat maps on a picture, clipped to its borders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from torchfakes_cli.records import Box, FaceScore

Pixels = NDArray[np.uint8]
#: Red, green and blue, 0 to 255.
Color = tuple[int, int, int]
INK: Color = (16, 16, 16)
_WHITE: Color = (255, 255, 255)
#: Colors of the evidence for "fake" and for "real", from Okabe and Ito's palette (*Color Universal Design*), which can
#: be told apart with any kind of color vision.
FAKE: Color = (213, 94, 0)
REAL: Color = (0, 114, 178)
#: The two ends of a line, as (x, y) each.
Line = tuple[tuple[int, int], tuple[int, int]]

#: Length of a dash, and of the gap after it, in multiples of the line's thickness.
_DASH = 4
#: Length of a corner as a share of the box's side.
_CORNER = 0.25
#: Largest coordinate in pixels to which corners are clamped, because OpenCV uses 32-bit integers.
_FAR = 1 << 15
#: Opacity of a heat map at its maximum.
_COVER = 0.75
#: Pillow includes this font (Aileron), so that it is the same on every system.
_font = lru_cache(maxsize=32)(ImageFont.load_default)


@lru_cache(maxsize=1024)
def lettering(text: str, size: int) -> Pixels:
    """Render a line of text of a size in pixels as an H×W coverage mask, 0 to 255; H depends only on the size."""
    font = _font(size)
    height = line_height(size)
    sheet = Image.new("L", (max(1, int(np.ceil(font.getlength(text)))), height))
    ImageDraw.Draw(sheet).text((0, height / 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(sheet)


def line_height(size: int) -> int:
    """Return the height in pixels of a line of letters of this size."""
    return round(1.25 * size)


def write(picture: Pixels, text: str, place: tuple[int, int], size: int, color: Color) -> int:
    """Write a line of text with its upper left corner at (x, y); return its width in pixels."""
    ink = lettering(text, size)
    (x, y), (height, width) = place, ink.shape
    x1, y1 = max(0, x), max(0, y)
    x2, y2 = min(picture.shape[1], x + width), min(picture.shape[0], y + height)
    if x1 < x2 and y1 < y2:
        under = picture[y1:y2, x1:x2]
        share = ink[y1 - y : y2 - y, x1 - x : x2 - x, None].astype(np.uint16)
        under[:] = ((255 - share) * under + share * np.asarray(color, np.uint16)) // 255
    return int(width)


def plate_size(text: str, size: int) -> tuple[int, int]:
    """Return the (width, height) in pixels of the plate that ``plate`` draws."""
    height, width = lettering(text, size).shape
    return width + 2 * _margin(size), height + _margin(size)


def plate(picture: Pixels, text: str, place: tuple[int, int], size: int, ink: Color, ground: Color) -> None:
    """Write a line of text on a filled plate with its upper left corner at (x, y)."""
    (x, y), (width, height) = place, plate_size(text, size)
    fill(picture, (x, y, x + width, y + height), ground)
    write(picture, text, (x + _margin(size), y + _margin(size) // 2), size, ink)


def _margin(size: int) -> int:
    return max(1, round(0.35 * size))


def fill(picture: Pixels, area: tuple[int, int, int, int], color: Color) -> None:
    """Fill the area from (x1, y1) to (x2, y2), exclusive."""
    x1, y1, x2, y2 = (max(0, edge) for edge in area)
    picture[y1:y2, x1:x2] = color


def frame_face(picture: Pixels, box: Box, thickness: int, color: Color, *, corners: bool, dashed: bool) -> None:
    """Draw a frame outside the box of a face, or only its corners, with a dark edge visible on any background."""
    out = thickness / 2
    x1, y1, x2, y2 = (
        round(min(max(edge, -_FAR), _FAR)) for edge in (box[0] - out, box[1] - out, box[2] + out, box[3] + out)
    )
    reach = _CORNER if corners else 1
    dx, dy = round(reach * (x2 - x1)), round(reach * (y2 - y1))
    lines: list[Line] = []
    for x, inward in ((x1, dx), (x2, -dx)):
        for y, down in ((y1, dy), (y2, -dy)):
            lines += [((x, y), (x + inward, y)), ((x, y), (x, y + down))]
    if dashed:
        lines = [dash for line in lines for dash in _dashes(line, _DASH * thickness)]
    edge = 1 + thickness // 3
    for width, ink in ((thickness + 2 * edge, INK), (thickness, color)):
        for start, end in lines:
            cv2.line(picture, start, end, ink, width)


def _dashes(line: Line, length: int) -> Sequence[Line]:
    """Divide a line into dashes, with one at either end."""
    (x1, y1), (x2, y2) = line
    whole = max(abs(x2 - x1), abs(y2 - y1))
    count = max(1, round((whole / length + 1) / 2))
    ends = np.linspace(0, 1, 2 * count)
    points = [(round(x1 + share * (x2 - x1)), round(y1 + share * (y2 - y1))) for share in ends.tolist()]
    return [(points[place], points[place + 1]) for place in range(0, 2 * count, 2)]


def fitted(picture: Pixels, side: int) -> Pixels:
    """Resize a picture to a longest side of ``side`` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
    )


def reduced(picture: Pixels, side: int) -> Pixels:
    """Reduce a picture whose longest side is larger than ``side`` pixels."""
    return fitted(picture, side) if max(picture.shape[:2]) > side else picture


def boxed_frame(pixels: Pixels, row: FaceScore, side: int) -> Pixels:
    """Return a copy of a whole frame, reduced to a longest side, with a numbered box around a face."""
    assert row.face is not None, "a person is shown by a row with a face"
    picture = reduced(pixels, side).copy()
    scale = picture.shape[1] / pixels.shape[1]
    x1, y1, x2, y2 = (edge * scale for edge in row.face.box)
    line, size = max(2, side // 240), max(12, side // 40)
    # A neutral color for every verdict.
    frame_face(picture, (x1, y1, x2, y2), line, _WHITE, corners=False, dashed=False)
    text = f"person {row.track}"
    width, height = plate_size(text, size)
    x = min(max(round(x1) - line, 0), max(0, picture.shape[1] - width))
    y = round(y1) - 2 * line - height
    plate(picture, text, (x, y if y >= 0 else round(y2) + 2 * line), size, INK, _WHITE)
    return picture


def heated(picture: Pixels, heat: NDArray[np.float32], hue: Color) -> Pixels:
    """Return a picture in gray with a heat map over it in one hue, scaled to its own maximum; NaN counts as 0."""
    height, width = picture.shape[:2]
    finite = np.nan_to_num(heat.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    strength = finite / max(float(finite.max()), float(np.finfo(np.float32).tiny))
    cover = np.clip(cv2.resize(strength, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)[..., None] * _COVER
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return (gray * (1 - cover) + np.array(hue, np.float32) * cover).round().astype(np.uint8)


def encoded(picture: Pixels, suffix: str, *options: int) -> bytes:
    """Encode a picture in the format of a suffix, with options of ``cv2.imencode``."""
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"a picture couldn't be encoded as {suffix}")
    return data.tobytes()
