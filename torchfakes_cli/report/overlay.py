"""Overlay of annotated clips: a box and a label for each face, and a bar of scores over time below the frame.

It needs only numpy, OpenCV and Pillow, and neither decodes nor encodes.

Between two neighboring samples of a person, at most two seconds apart, the box moves linearly. If the next sample
doesn't show that person, the box stays for half a second, but at most for half the time to that sample. A cut removes
all boxes until the next sample, because the faces of a new shot are unknown. No box appears before the first sample of
its person.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np

from torchfakes_cli.records import Box, FaceScore, VideoResult
from torchfakes_cli.report.drawing import (
    INK,
    Color,
    Pixels,
    fill,
    frame_face,
    lettering,
    line_height,
    plate,
    plate_size,
    write,
)
from torchfakes_cli.report.formatting import clock, score
from torchfakes_cli.report.summary import Person, Summary, Word, error_rates_in_short, summarize

PAPER: Color = (245, 245, 245)
FAINT: Color = (165, 165, 165)
_LINE_GRAY: Color = (90, 90, 90)
#: From Okabe and Ito's palette (*Color Universal Design*), distinguishable with any kind of color vision.
COLORS: dict[Word, Color] = {
    Word.FAKE: (213, 94, 0),
    Word.REAL: (86, 180, 233),
    Word.BETWEEN: (240, 228, 66),
    Word.TOO_FEW: (200, 200, 200),
    Word.UNSCORED: (150, 150, 150),
}

#: Shorter side in pixels at which one unit of the drawing is one pixel, so that letters of 11 units are readable.
_UNIT_SIDE = 360
#: Smallest shorter side in pixels; smaller clips are enlarged by a whole factor, so that letters fit.
_SMALLEST_SIDE = 320
#: Largest width in pixels of enlarged clips.
_ENLARGED_WIDTH = 1920

_LETTERS = 11
_LINE = 2.0
_NO_SCORE = {"blurry": "blurry: no score", "damaged": "damaged: no score"}

#: Largest distance in seconds between samples over which a box moves. Samples at 1 per second may be 1.5 s apart.
MAX_GAP_S = 2.0
#: Seconds for which a box stays if the next sample doesn't show its person.
HOLD_S = 0.5
#: Tolerance in seconds of equal times.
_SAME_S = 1e-6

#: Layout of the bar in units of the drawing: smallest height, width of the words on the left, room for the words on the
#: right, distance from the edges.
_HEIGHT, _WORDS, _GUTTER, _EDGE = 72, 200, 30, 8


class Overlay:
    """Overlay of one clip, whose frames are drawn in order of time.

    The bar of scores is added below the frame. Small clips are enlarged.

    Args:
        size: (width, height) of the clip in pixels.
        result: result of its scan.
        duration_s: duration of the clip in seconds.

    Attributes:
        size: (width, height) in pixels of what is drawn, both even.
        scale: pixels drawn for one of the clip.
    """

    def __init__(self, size: tuple[int, int], result: VideoResult, duration_s: float) -> None:
        self.scale = max(1, min(-(-_SMALLEST_SIDE // min(size)), _ENLARGED_WIDTH // max(size)))
        summary = summarize(result)
        self._people: dict[int | None, Person] = {person.track.number: person for person in summary.people}
        self._places = FacePlaces(result.timeline)
        self._picture_size = (size[0] * self.scale, size[1] * self.scale)
        width, self._below = (side + side % 2 for side in self._picture_size)
        self._unit = max(1.0, min(self._picture_size) / _UNIT_SIDE)
        self._bar = ScoreBar(width, self._unit, result, summary, duration_s)
        self.size = width, self._below + self._bar.height
        self._canvas = np.zeros((self.size[1], width, 3), np.uint8)

    def draw(self, pixels: Pixels, time_s: float, *, cut: bool = False, damaged: bool = False) -> Pixels:
        """Draw one frame.

        Args:
            pixels: H×W×3 RGB, of the clip's size or, if the size changes during the clip, of another.
            time_s: presentation time in seconds.
            cut: True if the frame begins a new shot.
            damaged: True if the decoder concealed damaged parts.

        Returns:
            H×W×3 RGB of ``size``, which the next call overwrites.
        """
        if cut:
            self._places.cut(time_s)
        width, height = self._picture_size
        picture = self._canvas[:height, :width]
        if pixels.shape == picture.shape:
            np.copyto(picture, pixels)
        else:
            picture[:] = cv2.resize(pixels, self._picture_size, interpolation=cv2.INTER_LINEAR)
        scale = width / pixels.shape[1], height / pixels.shape[0]
        faces = [(face, _scaled(face.box, scale)) for face in self._places.at(time_s)]
        for face, box in faces:
            word, unscored = self._people[face.row.track].word, face.row.p_fake is None
            thickness = self._u(_LINE * (1.6 if word is Word.FAKE else 1.0))
            frame_face(picture, box, thickness, COLORS[word], corners=not face.sampled, dashed=unscored)
        taken: list[tuple[int, int, int, int]] = []
        for face, box in faces:  # after all frames, which would cross them
            self._label(picture, face, box, taken)
        if damaged:
            plate(picture, "damaged picture", (0, 0), self._u(_LETTERS), INK, PAPER)
        # Sides of odd length are made even by doubling the last row and column.
        self._canvas[:height, width:] = self._canvas[:height, width - 1 : width]
        self._canvas[height : self._below] = self._canvas[height - 1 : height]
        self._bar.draw(self._canvas[self._below :], time_s)
        return self._canvas

    def _u(self, units: float) -> int:
        return max(1, round(units * self._unit))

    def _label(self, picture: Pixels, face: PlacedFace, box: Box, taken: list[tuple[int, int, int, int]]) -> None:
        """Label the person above the box and the face's own score below it; where there is no room, inside."""
        person, size, line = self._people[face.row.track], self._u(_LETTERS), self._u(_LINE)
        p_fake = face.row.p_fake
        own = _NO_SCORE.get(face.row.note, "") if p_fake is None else f"face {score(p_fake)}"
        label = label_of(person)
        texts = [(label, INK, COLORS[person.word], round(box[1]) - 2 * line - plate_size(label, size)[1])]
        if own:
            texts.append((own, PAPER, INK, round(box[3]) + 2 * line))
        for text, ink, ground, y in texts:
            width, height = plate_size(text, size)
            x = min(max(round(box[0]) - line, 0), max(0, picture.shape[1] - width))
            y = min(max(y, 0), max(0, picture.shape[0] - height))
            step = height if y + height <= (box[1] + box[3]) / 2 else -height
            # Beside other labels if there is room nearby, otherwise over them.
            tops = [y + tried * step for tried in range(5) if 0 <= y + tried * step <= picture.shape[0] - height]
            areas = [(x, top, x + width, top + height) for top in tops or [y]]
            free = (area for area in areas if not any(_overlap(area, other) for other in taken))
            area = next(free, areas[0])
            taken.append(area)
            plate(picture, text, area[:2], size, ink, ground)


def label_of(person: Person) -> str:
    """Return the label of a person, such as ``#1 fake 0.93``, with a word beside the color for color-blind viewers."""
    return f"#{person.track.number} {person.word.value} {score(person.track.p_fake)}".rstrip()


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    return box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """A face at some time: interpolated box, row of its latest sample, and whether that sample is this very frame."""

    box: Box
    row: FaceScore
    sampled: bool


class FacePlaces:
    """Positions of faces at any time, interpolated between the samples of a timeline."""

    def __init__(self, timeline: Sequence[FaceScore]) -> None:
        moments = [(time_s, list(rows)) for time_s, rows in groupby(timeline, key=lambda row: row.time_s)]
        self._times = [time_s for time_s, _ in moments]
        self._rows = [[row for row in rows if row.face is not None] for _, rows in moments]
        self._cut_s = -1.0

    def cut(self, time_s: float) -> None:
        """Record that a new shot begins at this time."""
        self._cut_s = time_s

    def at(self, time_s: float) -> list[PlacedFace]:
        """Return the faces at a time, in the order of the timeline."""
        place = bisect_right(self._times, time_s + _SAME_S) - 1
        if place < 0:
            return []
        rows, since = self._rows[place], time_s - self._times[place]
        if since <= _SAME_S:
            return [PlacedFace(_box(row), row, sampled=True) for row in rows]
        if self._cut_s > self._times[place] + _SAME_S:
            return []
        after = place + 1 < len(self._times)
        gap = self._times[place + 1] - self._times[place] if after else float("inf")
        next_boxes = {row.track: _box(row) for row in self._rows[place + 1]} if gap <= MAX_GAP_S else {}
        faces = []
        for row in rows:
            box = _box(row)
            if row.track in next_boxes:
                share = since / gap
                moved = [start + (end - start) * share for start, end in zip(box, next_boxes[row.track], strict=True)]
                faces.append(PlacedFace((moved[0], moved[1], moved[2], moved[3]), row, sampled=False))
            elif since <= min(HOLD_S, gap / 2):
                faces.append(PlacedFace(box, row, sampled=False))
        return faces


def _box(row: FaceScore) -> Box:
    assert row.face is not None, "only rows with a face are kept"
    return row.face.box


class ScoreBar:
    """Bar with the verdict on the left and the scores over time on the right.

    ``unit`` is the number of pixels in a unit of the drawing; ``height`` in pixels is an even number.
    """

    def __init__(self, width: int, unit: float, result: VideoResult, summary: Summary, duration_s: float) -> None:
        self._unit = unit
        self._duration_s = max(duration_s, 1e-6)
        self._left = min(self._u(_WORDS + _EDGE), width // 2)
        self._right = max(self._left + 1, width - self._u(_GUTTER + _EDGE))
        words = self._words(result, summary)
        needed = sum(line_height(size) + self._u(1) for _, size, _ in words) + 2 * self._u(_EDGE)
        self.height = 2 * round(max(self._u(_HEIGHT), needed) / 2)
        self._top = self._u(20)
        self._bottom = self.height - self._u(9)
        self._sheet = np.full((self.height, width, 3), INK, np.uint8)
        y = self._u(_EDGE)
        for text, size, color in words:
            write(self._sheet[:, : self._left - self._u(4)], text, (self._u(_EDGE), y), size, color)
            y += line_height(size) + self._u(1)
        self._draw_axes(result)
        self._draw_scores(result, summary)

    def draw(self, area: Pixels, time_s: float) -> None:
        """Draw the bar with the position of a time onto an area of its size."""
        np.copyto(area, self._sheet)
        x = self._x(time_s)
        half = max(1, self._u(1)) // 2
        fill(area, (x - half, self._top - self._u(4), x + max(1, self._u(1)) - half, self._bottom + self._u(3)), PAPER)
        size = self._u(10)
        now = f"{clock(time_s, 1)} / {clock(self._duration_s, 1)}"
        write(area, now, (self._right - lettering(now, size).shape[1], self._u(3)), size, PAPER)

    def _u(self, units: float) -> int:
        return round(units * self._unit)

    def _x(self, time_s: float) -> int:
        return self._left + round((self._right - 1 - self._left) * min(max(time_s / self._duration_s, 0.0), 1.0))

    def _y(self, p_fake: float) -> int:
        return self._bottom - round((self._bottom - self._top) * p_fake)

    def _words(self, result: VideoResult, summary: Summary) -> list[tuple[str, int, Color]]:
        """Return the lines on the left, each with the size and the color of its letters."""
        verdict = f"{summary.verdict.upper()} {summary.score}".rstrip()
        texts = [
            (verdict, 18.0, COLORS[Word(summary.verdict.value)]),
            (summary.short, 11.0, PAPER),
            (f"real below {summary.real_below}, fake from {summary.fake_above}", 9.5, PAPER),
            (summary.proof, 9.5, PAPER),
            (error_rates_in_short(result.error_rates) if result.error_rates else "", 9.5, FAINT),
        ]
        lines = []
        for text, units, color in texts:
            size = self._u(units)
            lines += [(line, size, color) for line in _wrapped(text, size, self._left - self._u(_EDGE + 4))]
        return lines

    def _draw_axes(self, result: VideoResult) -> None:
        fill(self._sheet, (self._left, self._bottom, self._right, self._bottom + max(1, self._u(0.7))), _LINE_GRAY)
        size = self._u(9)
        fake, real = self._y(result.fake_above or 0), self._y(result.real_below or 0)
        for y in {fake, real}:
            for x in range(self._left, self._right, max(2, self._u(6))):
                fill(self._sheet, (x, y, min(x + self._u(3), self._right), y + max(1, self._u(0.7))), _LINE_GRAY)
        x = self._right + self._u(4)
        # Above and below their lines, for the two may be one.
        write(self._sheet, "fake", (x, min(fake, self._bottom) - line_height(size)), size, COLORS[Word.FAKE])
        write(self._sheet, "real", (x, max(real, self._top)), size, COLORS[Word.REAL])

    def _draw_scores(self, result: VideoResult, summary: Summary) -> None:
        """Draw the scores: triangles, squares and discs for those of the first person, dots for the others."""
        shown = summary.people[0].track.number if summary.people else None
        counting = sum(row.track == shown and row.p_fake is not None for row in result.timeline)
        # Small enough to be told apart where there are many.
        room = (self._right - self._left) / (2 * max(1, counting))
        size = round(min(max(room, self._u(1.4)), self._u(2.8)))
        # The dots come before the marks, so that none hides a mark.
        for row in sorted(result.timeline, key=lambda row: row.track == shown):
            x = self._x(row.time_s)
            if row.p_fake is None:
                y = self._bottom + self._u(2)
                fill(self._sheet, (x, y, x + max(1, self._u(0.7)), y + self._u(3)), FAINT if row.face else _LINE_GRAY)
                continue
            y = self._y(row.p_fake)
            if row.track != shown:
                cv2.circle(self._sheet, (x, y), max(1, self._u(1.2)), _LINE_GRAY, -1)
            elif row.p_fake >= (result.fake_above or 0):
                corners = np.array([(x - size, y + size), (x + size, y + size), (x, y - size)], np.int32)
                cv2.fillConvexPoly(self._sheet, corners, COLORS[Word.FAKE], cv2.LINE_AA)
            elif row.p_fake < (result.real_below or 0):
                cv2.circle(self._sheet, (x, y), size, COLORS[Word.REAL], -1, cv2.LINE_AA)
            else:
                fill(self._sheet, (x - size, y - size, x + size, y + size), COLORS[Word.BETWEEN])


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels, a longer word aside."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and lettering(longer, size).shape[1] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
