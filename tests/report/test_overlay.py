"""What is drawn over a picture: where boxes are between samples, what they look like, and that letters are readable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.report.results import result as film
from tests.scan.annotated import row, track
from torchfakes_cli.records import FaceScore, Verdict
from torchfakes_cli.report.drawing import Pixels, lettering
from torchfakes_cli.report.overlay import COLORS, FacePlaces, Overlay, label_of
from torchfakes_cli.report.summary import Person, Word

LEFT = (0.0, 0.0, 50.0, 60.0)
RIGHT = (100.0, 0.0, 150.0, 60.0)


def overlay(size: tuple[int, int], timeline: list[FaceScore], duration_s: float = 10.0) -> Overlay:
    people = (track(1), track(2, 0.1), track(3, None, lasting=False))
    result = replace(film(), verdict=Verdict.FAKE, reason=None, p_fake=0.9, tracks=people, timeline=tuple(timeline))
    return Overlay(size, result, duration_s)


def gray(size: tuple[int, int], level: int = 120) -> Pixels:
    return np.full((size[1], size[0], 3), level, np.uint8)


def colored(pixels: Pixels, color: tuple[int, int, int]) -> int:
    """How many pixels have a color."""
    return int((pixels == np.array(color, np.uint8)).all(-1).sum())


def lefts(places: FacePlaces, time_s: float) -> list[float]:
    return [round(face.box[0], 6) for face in places.at(time_s)]


def test_a_box_moves_straight_between_neighboring_samples() -> None:
    places = FacePlaces([row(1.0, LEFT), row(2.0, RIGHT)])
    assert [lefts(places, time_s) for time_s in (0.9, 1.0, 1.25, 1.99, 2.0)] == [[], [0.0], [25.0], [99.0], [100.0]]
    assert [places.at(time_s)[0].sampled for time_s in (1.0, 1.25, 2.0)] == [True, False, True]
    # It keeps the score of the sample before it: nothing was measured between.
    assert places.at(1.99)[0].row.time_s == 1.0


def test_a_box_stays_for_a_moment_where_nothing_tells_where_it_goes() -> None:
    places = FacePlaces([row(0.0, LEFT), row(5.0, RIGHT), row(5.6, None), row(6.6, LEFT, track=2)])
    assert lefts(places, 0.5) == [0.0]
    assert lefts(places, 0.51) == []
    assert lefts(places, 5.3) == [100.0]  # half of the way to the next sample
    assert lefts(places, 5.31) == []
    assert lefts(places, 5.6) == []
    assert lefts(places, 7.0) == [0.0]
    assert lefts(places, 7.2) == []


def test_a_cut_takes_boxes_away_until_the_next_sample() -> None:
    places = FacePlaces([row(0.0, LEFT), row(1.0, RIGHT), row(2.0, RIGHT)])
    assert lefts(places, 0.2)
    places.cut(0.3)
    assert not lefts(places, 0.3)
    assert not lefts(places, 0.9)
    assert lefts(places, 1.0)
    places.cut(2.0)  # the sample itself is of the new shot
    assert lefts(places, 2.0)
    assert lefts(places, 2.1)


@pytest.mark.parametrize("size", [(128, 96), (256, 256), (640, 360), (641, 361), (720, 1280), (3840, 2160)])
def test_letters_are_readable_at_any_size(size: tuple[int, int]) -> None:
    drawn = overlay(size, [row(0.0, (40, 40, 90, 90))])
    width, height = drawn.size
    assert width % 2 == height % 2 == 0
    picture = drawn.draw(gray(size), 0.0)
    assert picture.shape == (height, width, 3)
    assert height < 1.4 * size[1] * drawn.scale
    label = colored(picture[: size[1] * drawn.scale], COLORS[Word.FAKE])
    side = min(size) * drawn.scale
    assert side >= 288
    assert label > (side / 360) ** 2 * 600


def test_every_standing_has_words_and_a_look_of_its_own() -> None:
    boxes = [(60.0 + 200 * place, 100.0, 140.0 + 200 * place, 200.0) for place in range(3)]
    timeline = [
        row(0.0, boxes[0], 0.95),
        row(0.0, boxes[1], 0.1, track=2),
        row(0.0, boxes[2], None, "blurry", track=3),
    ]
    picture = overlay((640, 360), timeline).draw(gray((640, 360)), 0.0)[:360]
    looks = zip((60, 260, 460), (Word.FAKE, Word.REAL, Word.UNSCORED), strict=True)
    fake, real, unscored = (colored(picture[110:190, x - 8 : x + 4], COLORS[word]) for x, word in looks)
    assert fake > real > unscored > 0
    labels = {
        word: label_of(Person(track(4, None if word is Word.UNSCORED else 0.5), word, "", False)) for word in Word
    }
    assert len(set(labels.values())) == len(Word)
    assert all(word.value in label for word, label in labels.items())


def test_the_bar_shows_the_moment_and_marks_scores_by_shape_too() -> None:
    timeline = [row(0.0, LEFT, 0.9), row(5.0, LEFT, 0.5), row(9.0, LEFT, 0.1)]
    drawn = overlay((640, 360), timeline)
    start, end = (drawn.draw(gray((640, 360)), time_s)[360:].copy() for time_s in (2.0, 8.0))
    moments = [np.flatnonzero((bar[50] == 245).all(-1)) for bar in (start, end)]
    assert all(len(columns) for columns in moments)
    assert moments[1].mean() - moments[0].mean() == pytest.approx((640 - 38 - 208) * 0.6, abs=4)
    plot = start[:, 208:604]
    heights = [np.flatnonzero((plot == np.array(COLORS[word])).all(-1).any(1)) for word in (Word.FAKE, Word.REAL)]
    assert heights[0].max() < heights[1].min()
    triangle, disc = (
        [int((plot[y] == np.array(COLORS[word])).all(-1).sum()) for y in (rows[1], rows[-1])]
        for word, rows in zip((Word.FAKE, Word.REAL), heights, strict=True)
    )
    assert triangle[0] < triangle[1]
    assert disc[0] >= disc[1]


def test_a_picture_of_another_size_is_fitted_with_its_boxes() -> None:
    drawn = overlay((640, 360), [row(0.0, (40, 20, 80, 60))])
    picture = drawn.draw(gray((320, 180)), 0.0)
    assert (picture[60, 78] == np.array(COLORS[Word.FAKE])).all()
    assert (picture[300, 600] == 120).all()


def test_a_face_at_the_edge_and_far_outside_is_no_trouble() -> None:
    timeline = [row(0.0, (-50, -80, 30, 20)), row(0.0, (1e7, -1e9, 1e8, 1e9), track=2)]
    assert overlay((640, 360), timeline).draw(gray((640, 360)), 0.0).shape[1] == 640


def test_letters_of_one_size_are_as_high_whatever_they_are() -> None:
    assert {lettering(text, 20).shape[0] for text in ("g", "A low score", "|", "0.93")} == {25}
    assert lettering("Hg", 20).max() == 255


def test_damage_is_told() -> None:
    drawn = overlay((640, 360), [], 10.0)
    whole = drawn.draw(gray((640, 360)), 0.0).copy()
    damaged = drawn.draw(gray((640, 360)), 0.0, damaged=True)
    assert (whole[:360] == 120).all()
    assert (damaged[:20, :80] != 120).any()
