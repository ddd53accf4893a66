"""Overlay of annotated clips: a box and a label for each face, and a bar of scores over time below the frame.

It needs only numpy, OpenCV and Pillow, and neither decodes nor encodes.

Between two neighbouring samples of a person, at most two seconds apart, the box moves linearly. If the next sample
doesn't show that person, the box stays for half a second, but at most for half the time to that sample. A cut removes
all boxes until the next sample, because the faces of a new shot are unknown. No box appears before the first sample of
its person.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np

from torchfakes_cli.records import Box, FaceScore
from torchfakes_cli.report.drawing import (
    INK,
    Colour,
    Pixels,
    fill,
    frame_face,
    lettering,
    line_height,
    plate,
    plate_size,
    write,
)
from torchfakes_cli.report.summary import CAVEAT, Word, score

PAPER: Colour = (245, 245, 245)
FAINT: Colour = (165, 165, 165)
_LINE_GREY: Colour = (90, 90, 90)
#: From Okabe and Ito's palette (*Color Universal Design*), distinguishable with any kind of colour vision.
COLOURS: dict[Word, Colour] = {
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

#: Layout of the bar, in units of the drawing (see ``Overlay``).
_HEIGHT = 72
_HEADLINE_WIDTH = 180
_GUTTER = 30
_EDGE = 8


@dataclass(frozen=True, slots=True)
class Person:
    """Label of a track, with a word beside the colour for colour-blind viewers.

    Attributes:
        number: number of the track.
        word: meaning of its score.
        p_fake: probability of the track; None if none of its faces was scored.
    """

    number: int
    word: Word
    p_fake: float | None

    @property
    def label(self) -> str:
        """Text of the label, such as ``#1 fake 0.93``."""
        return f"#{self.number} {self.word.value} {score(self.p_fake)}".rstrip()


@dataclass(frozen=True, slots=True)
class Headline:
    """Verdict in words.

    Attributes:
        words: verdict and score, such as ``FAKE 0.93``.
        why: reason in a few words, below the verdict.
        word: word that selects the colour.
    """

    words: str
    why: str
    word: Word


class Overlay:
    """Overlay of one clip, whose frames are drawn in order of time.

    The bar of scores is added below the frame. Small clips are enlarged.

    Args:
        size: (width, height) of the clip in pixels.
        headline: the verdict.
        people: by the number of their track.
        timeline: one row a face and one for each sampled frame without any, in order of time.
        deciding: number of the track that the verdict rests on; None where there is none.
        fake_above: from this probability on a video is called fake.
        real_below: below this one it is called real.
        duration_s: of the clip.

    Attributes:
        size: (width, height) in pixels of what is drawn, both even.
        scale: pixels drawn for one of the clip.
    """

    def __init__(
        self,
        size: tuple[int, int],
        headline: Headline,
        people: Mapping[int, Person],
        timeline: Sequence[FaceScore],
        *,
        deciding: int | None,
        fake_above: float,
        real_below: float,
        duration_s: float,
    ) -> None:
        self.scale = _enlargement(size)
        self._people = people
        self._places = FacePlaces(timeline)
        self._picture_size = (size[0] * self.scale, size[1] * self.scale)
        width, height = (side + side % 2 for side in self._picture_size)
        self._unit = max(1.0, min(self._picture_size) / _UNIT_SIDE)
        bar = 2 * round(_HEIGHT * self._unit / 2)
        self.size = width, height + bar
        self._canvas = np.zeros((height + bar, width, 3), np.uint8)
        self._bar = ScoreBar(
            (width, bar),
            self._unit,
            headline,
            timeline,
            deciding=deciding,
            fake_above=fake_above,
            real_below=real_below,
            duration_s=duration_s,
        )

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
        faces = self._places.at(time_s)
        taken: list[tuple[int, int, int, int]] = []
        for face in faces:
            self._frame(picture, face, _scaled(face.box, scale))
        for face in faces:  # after all frames, which would cross them
            self._label(picture, face, _scaled(face.box, scale), taken)
        if damaged:
            plate(picture, "damaged picture", (0, 0), self._u(_LETTERS), INK, PAPER)
        below = -(-height // 2) * 2
        # Sides of odd length are made even by doubling the last row and column.
        self._canvas[:height, width:] = self._canvas[:height, width - 1 : width]
        self._canvas[height:below] = self._canvas[height - 1 : height]
        self._bar.draw(self._canvas[below:], time_s)
        return self._canvas

    def _u(self, units: float) -> int:
        return max(1, round(units * self._unit))

    def _frame(self, picture: Pixels, face: PlacedFace, box: Box) -> None:
        word = self._person(face.row).word
        frame_face(
            picture,
            box,
            self._u(_LINE * (1.6 if word is Word.FAKE else 1.0)),
            COLOURS[word],
            corners=not face.sampled,
            dashed=face.row.p_fake is None,
        )

    def _label(self, picture: Pixels, face: PlacedFace, box: Box, taken: list[tuple[int, int, int, int]]) -> None:
        """The person above the box and the face's own score below it; where there is no room, inside."""
        person, size, line = self._person(face.row), self._u(_LETTERS), self._u(_LINE)
        p_fake = face.row.p_fake
        own = _NO_SCORE.get(face.row.note, "") if p_fake is None else f"face {score(p_fake)}"
        gap = 2 * line
        texts = [(person.label, INK, COLOURS[person.word], round(box[1]) - gap - plate_size(person.label, size)[1])]
        if own:
            texts.append((own, PAPER, INK, round(box[3]) + gap))
        for text, ink, ground, y in texts:
            width, height = plate_size(text, size)
            x = min(max(round(box[0]) - line, 0), max(0, picture.shape[1] - width))
            y = min(max(y, 0), max(0, picture.shape[0] - height))
            step = height if y + height <= (box[1] + box[3]) / 2 else -height
            area = (x, y, x + width, y + height)
            for _ in range(4):  # aside from what others have written, if that isn't far
                if not any(_overlap(area, other) for other in taken):
                    break
                area = (area[0], area[1] + step, area[2], area[3] + step)
            if not 0 <= area[1] <= picture.shape[0] - height:
                area = (x, y, x + width, y + height)
            taken.append(area)
            plate(picture, text, area[:2], size, ink, ground)

    def _person(self, row: FaceScore) -> Person:
        assert row.track is not None, "a face belongs to a track"
        return self._people[row.track]


def _enlargement(size: tuple[int, int]) -> int:
    wanted = -(-_SMALLEST_SIDE // min(size))
    return max(1, min(wanted, _ENLARGED_WIDTH // max(size)))


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    return box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """A face at some time.

    Attributes:
        box: where it is, or is taken to be, in pixels of the frame.
        row: of the sample it is known from, this one or the one before.
        sampled: whether that sample is this very frame.
    """

    box: Box
    row: FaceScore
    sampled: bool


class FacePlaces:
    """Positions of faces at any time, interpolated between samples.

    Args:
        timeline: one row a face and one for each sampled frame without any, in order of time.
    """

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
        since = time_s - self._times[place]
        if since <= _SAME_S:
            return [PlacedFace(_box(row), row, sampled=True) for row in self._rows[place]]
        if self._cut_s > self._times[place] + _SAME_S:
            return []
        following, gap = [], float("inf")
        if place + 1 < len(self._times):
            following, gap = self._rows[place + 1], self._times[place + 1] - self._times[place]
        next_boxes = {row.track: _box(row) for row in following} if gap <= MAX_GAP_S else {}
        faces = []
        for row in self._rows[place]:
            box = _box(row)
            if row.track in next_boxes:
                faces.append(PlacedFace(_between(box, next_boxes[row.track], since / gap), row, sampled=False))
            elif since <= min(HOLD_S, gap / 2):
                faces.append(PlacedFace(box, row, sampled=False))
        return faces


def _box(row: FaceScore) -> Box:
    assert row.face is not None, "only rows with a face are kept"
    return row.face.box


def _between(a: Box, b: Box, share: float) -> Box:
    x1, y1, x2, y2 = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return x1, y1, x2, y2


class ScoreBar:
    """Bar of scores over time.

    Args:
        size: (width, height) in pixels.
        unit: pixels in a unit of the drawing.
        headline: the verdict.
        timeline: one row a face and one for each sampled frame without any, in order of time.
        deciding: number of the track that the verdict rests on; None where there is none.
        fake_above: from this probability on a video is called fake.
        real_below: below this one it is called real.
        duration_s: of the clip.
    """

    def __init__(
        self,
        size: tuple[int, int],
        unit: float,
        headline: Headline,
        timeline: Sequence[FaceScore],
        *,
        deciding: int | None,
        fake_above: float,
        real_below: float,
        duration_s: float,
    ) -> None:
        self._unit = unit
        self._duration_s = max(duration_s, 1e-6)
        self._thresholds = (fake_above, real_below)
        width, height = size
        self._left = min(self._u(_HEADLINE_WIDTH + _EDGE), width // 2)
        self._right = max(self._left + 1, width - self._u(_GUTTER + _EDGE))
        self._top = self._u(20)
        self._bottom = max(self._top + 1, height - self._u(9))
        self._sheet = np.zeros((height, width, 3), np.uint8)
        self._sheet[:] = INK
        self._write_headline(headline)
        self._draw_axes()
        self._draw_scores(timeline, deciding)

    @property
    def span(self) -> tuple[int, int]:
        """The columns, in pixels, at which the clip begins and ends."""
        return self._left, self._right

    def draw(self, area: Pixels, time_s: float) -> None:
        """Draw the bar with the position of a time onto an area of its size."""
        np.copyto(area, self._sheet)
        x = self._x(time_s)
        half = max(1, self._u(1)) // 2
        fill(area, (x - half, self._top - self._u(4), x + max(1, self._u(1)) - half, self._bottom + self._u(3)), PAPER)
        size = self._u(10)
        now = f"{_clock(time_s)} / {_clock(self._duration_s)}"
        write(area, now, (self._right - lettering(now, size).shape[1], self._u(3)), size, PAPER)

    def _u(self, units: float) -> int:
        return round(units * self._unit)

    def _x(self, time_s: float) -> int:
        return self._left + round((self._right - 1 - self._left) * min(max(time_s / self._duration_s, 0.0), 1.0))

    def _y(self, p_fake: float) -> int:
        return self._bottom - round((self._bottom - self._top) * p_fake)

    def _write_headline(self, headline: Headline) -> None:
        x, y = self._u(_EDGE), self._u(8)
        for text, units, colour in (
            (headline.words, 18, COLOURS[headline.word]),
            (headline.why, 11, PAPER),
            (CAVEAT, 9.5, FAINT),
        ):
            write(self._sheet[:, : self._left - self._u(4)], text, (x, y), self._u(units), colour)
            y += line_height(self._u(units)) + self._u(1)

    def _draw_axes(self) -> None:
        fill(self._sheet, (self._left, self._bottom, self._right, self._bottom + max(1, self._u(0.7))), _LINE_GREY)
        size = self._u(9)
        fake, real = (self._y(value) for value in self._thresholds)
        for y in {fake, real}:
            for x in range(self._left, self._right, max(2, self._u(6))):
                fill(self._sheet, (x, y, min(x + self._u(3), self._right), y + max(1, self._u(0.7))), _LINE_GREY)
        x = self._right + self._u(4)
        # Above and below their lines, for the two may be one.
        write(self._sheet, "fake", (x, min(fake, self._bottom) - line_height(size)), size, COLOURS[Word.FAKE])
        write(self._sheet, "real", (x, max(real, self._top)), size, COLOURS[Word.REAL])

    def _draw_scores(self, timeline: Sequence[FaceScore], deciding: int | None) -> None:
        for row in timeline:  # the bystanders first, so that none of them hides a score that counts
            if row.track != deciding and row.p_fake is not None:
                cv2.circle(self._sheet, self._point(row), max(1, self._u(1.2)), _LINE_GREY, -1)
            elif row.p_fake is None:
                x, y = self._x(row.time_s), self._bottom + self._u(2)
                fill(self._sheet, (x, y, x + max(1, self._u(0.7)), y + self._u(3)), FAINT if row.face else _LINE_GREY)
        counting = [row for row in timeline if row.track == deciding and row.p_fake is not None]
        # Small enough to be told apart where there are many.
        room = (self._right - self._left) / (2 * max(1, len(counting)))
        for row in counting:
            self._mark(row, round(min(max(room, self._u(1.4)), self._u(2.8))))

    def _mark(self, row: FaceScore, size: int) -> None:
        """A score that counts: its shape tells, as its colour does, on which side of the thresholds it lies."""
        assert row.p_fake is not None
        fake_above, real_below = self._thresholds
        x, y = self._point(row)
        if row.p_fake >= fake_above:
            corners = np.array([(x - size, y + size), (x + size, y + size), (x, y - size)], np.int32)
            cv2.fillConvexPoly(self._sheet, corners, COLOURS[Word.FAKE], cv2.LINE_AA)
        elif row.p_fake < real_below:
            cv2.circle(self._sheet, (x, y), size, COLOURS[Word.REAL], -1, cv2.LINE_AA)
        else:
            fill(self._sheet, (x - size, y - size, x + size, y + size), COLOURS[Word.BETWEEN])

    def _point(self, row: FaceScore) -> tuple[int, int]:
        assert row.p_fake is not None
        return self._x(row.time_s), self._y(row.p_fake)


def _clock(seconds: float) -> str:
    """Seconds as a player shows them, with tenths: m:ss.t, or h:mm:ss.t."""
    tenths = int(seconds * 10 + 1e-6)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600
    text = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"
