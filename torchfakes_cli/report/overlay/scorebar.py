"""The bar under the picture: the verdict, and the scores over time with the moment that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.overlay.pen import Pixels, fill, lettering, line_height, write
from torchfakes_cli.report.overlay.people import FAINT, INK, PAPER, Colour, Word

#: Everything in units of the drawing; see ``Overlay``.
HEIGHT = 72
_HEADLINE_WIDTH = 180
_GUTTER = 30
_EDGE = 8

_GROUND: Colour = INK
_LINE: Colour = (90, 90, 90)

_LIMIT = "A low score is no proof of authenticity."


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict in words.

    Attributes:
        words: such as ``FAKE 0.93``.
        why: a few words under it.
        word: whose colour it gets.
    """

    words: str
    why: str
    word: Word


class ScoreBar:
    """Draws the bar.

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
        self._sheet[:] = _GROUND
        self._write_headline(headline)
        self._draw_axes()
        self._draw_scores(timeline, deciding)

    @property
    def span(self) -> tuple[int, int]:
        """The columns, in pixels, at which the clip begins and ends."""
        return self._left, self._right

    def draw(self, area: Pixels, time_s: float) -> None:
        """Draws the bar, at a time, over an area of its size."""
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
            (headline.words, 18, headline.word.colour),
            (headline.why, 11, PAPER),
            (_LIMIT, 9.5, FAINT),
        ):
            write(self._sheet[:, : self._left - self._u(4)], text, (x, y), self._u(units), colour)
            y += line_height(self._u(units)) + self._u(1)

    def _draw_axes(self) -> None:
        fill(self._sheet, (self._left, self._bottom, self._right, self._bottom + max(1, self._u(0.7))), _LINE)
        size = self._u(9)
        fake, real = (self._y(value) for value in self._thresholds)
        for y in {fake, real}:
            for x in range(self._left, self._right, max(2, self._u(6))):
                fill(self._sheet, (x, y, min(x + self._u(3), self._right), y + max(1, self._u(0.7))), _LINE)
        x = self._right + self._u(4)
        # Above and below their lines, for the two may be one.
        write(self._sheet, "fake", (x, min(fake, self._bottom) - line_height(size)), size, Word.FAKE.colour)
        write(self._sheet, "real", (x, max(real, self._top)), size, Word.REAL.colour)

    def _draw_scores(self, timeline: Sequence[FaceScore], deciding: int | None) -> None:
        for row in timeline:  # the bystanders first, so that none of them hides a score that counts
            if row.track != deciding and row.p_fake is not None:
                cv2.circle(self._sheet, self._point(row), max(1, self._u(1.2)), _LINE, -1)
            elif row.p_fake is None:
                x, y = self._x(row.time_s), self._bottom + self._u(2)
                fill(self._sheet, (x, y, x + max(1, self._u(0.7)), y + self._u(3)), FAINT if row.face else _LINE)
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
            cv2.fillConvexPoly(self._sheet, corners, Word.FAKE.colour, cv2.LINE_AA)
        elif row.p_fake < real_below:
            cv2.circle(self._sheet, (x, y), size, Word.REAL.colour, -1, cv2.LINE_AA)
        else:
            fill(self._sheet, (x - size, y - size, x + size, y + size), Word.BETWEEN.colour)

    def _point(self, row: FaceScore) -> tuple[int, int]:
        assert row.p_fake is not None
        return self._x(row.time_s), self._y(row.p_fake)


def _clock(seconds: float) -> str:
    """Seconds as a player shows them, with tenths: m:ss.t, or h:mm:ss.t."""
    tenths = int(seconds * 10 + 1e-6)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600
    text = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"
