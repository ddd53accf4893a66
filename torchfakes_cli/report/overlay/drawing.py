"""Draws over the pictures of a clip, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from torchfakes_cli.records import Box, FaceScore
from torchfakes_cli.report.overlay.pen import Pixels, frame_face, plate, plate_size
from torchfakes_cli.report.overlay.people import INK, PAPER, Person
from torchfakes_cli.report.overlay.places import FacePlaces, PlacedFace
from torchfakes_cli.report.overlay.scorebar import HEIGHT, Headline, ScoreBar

#: Pixels of the shorter side that make a unit of one pixel: letters of 11 units are read with ease then.
_UNIT_SIDE = 360
#: Clips whose shorter side is smaller are enlarged by a whole factor, for letters to fit …
_SMALLEST_SIDE = 320
#: … but not beyond this width, whatever their shape.
_ENLARGED_WIDTH = 1920

_LETTERS = 11
_LINE = 2.0
_NO_SCORE = {"blurry": "blurry: no score", "damaged": "damaged: no score", "long_shot": "not scored"}


class Overlay:
    """Draws over the pictures of one clip, given in order of time.

    The picture stays whole: the bar of scores is put under it. A small clip is enlarged.

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
        bar = 2 * round(HEIGHT * self._unit / 2)
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
        """Draws one picture.

        Args:
            pixels: H×W×3 RGB, of the clip's size or, where that changes on the way, of another.
            time_s: when it is shown.
            cut: it begins a new shot.
            damaged: parts of it are made up by the decoder.

        Returns:
            H×W×3 RGB of ``size``; drawn over by the next call.
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
            self._u(_LINE * word.weight),
            word.colour,
            corners=not face.sampled,
            dashed=face.row.p_fake is None,
        )

    def _label(self, picture: Pixels, face: PlacedFace, box: Box, taken: list[tuple[int, int, int, int]]) -> None:
        """The person above the box and the face's own score below it; where there is no room, inside."""
        person, size, line = self._person(face.row), self._u(_LETTERS), self._u(_LINE)
        score = face.row.p_fake
        own = _NO_SCORE.get(face.row.note, "") if score is None else f"face {score:.2f}"
        gap = 2 * line
        texts = [(person.label, INK, person.word.colour, round(box[1]) - gap - plate_size(person.label, size)[1])]
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
