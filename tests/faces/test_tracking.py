"""Faces are followed between searches, and a track is one person's faces through one shot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.faces.parity import Parity
from tests.people import SIZE, swapped, two_people
from tests.portraits import Pixels, scene
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.tracking import FaceFollower, FaceTracker
from torchfakes_cli.records import Face, Frame

RED, BLUE = (200, 60, 50), (40, 70, 190)
SIDE = 80


def room(color: tuple[int, int, int] = (120, 120, 120)) -> np.ndarray:
    """A textured 640×360 background."""
    noise = np.random.default_rng(3).integers(-15, 15, (360, 640, 1))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)


def shown(
    people: list[tuple[float, float, tuple[int, int, int]]], background: np.ndarray
) -> tuple[np.ndarray, list[Face]]:
    """People as colored squares at (x, y) with the faces found there."""
    pixels, faces = background.copy(), []
    for x, y, color in people:
        pixels[int(y) - 10 : int(y) + SIDE + 10, max(0, int(x) - 10) : int(x) + SIDE + 10] = color
        points = tuple((x + dx, y + dy) for dx, dy in ((25, 30), (55, 30), (40, 45), (28, 60), (52, 60)))
        faces.append(Face((x, y, x + SIDE, y + SIDE), 0.99, points))  # type: ignore[arg-type]
    return pixels, faces


def tracks(steps: list[tuple[float, list[tuple[float, float, tuple[int, int, int]]], np.ndarray]]) -> list[list[int]]:
    tracker = FaceTracker()
    numbers = []
    for time_s, people, background in steps:
        pixels, faces = shown(people, background)
        numbers.append(tracker.update(Frame(time_s, None, pixels), faces))
    return numbers


def test_a_moving_person_keeps_the_number() -> None:
    steps = [(t * 0.5, [(50.0 + 40 * t, 100.0, RED)], room()) for t in range(10)]
    assert tracks(steps) == [[1]] * 10


def test_people_who_cross_keep_their_numbers() -> None:
    steps = [
        (t * 0.5, [(60.0 + 60 * t, 80.0, RED), (480.0 - 60 * t, 160.0, BLUE)][:: 1 if t % 2 else -1], room())
        for t in range(8)
    ]
    numbers = tracks(steps)
    red = {found[0 if t % 2 else 1] for t, found in enumerate(numbers)}
    blue = {found[1 if t % 2 else 0] for t, found in enumerate(numbers)}
    assert len(red) == len(blue) == 1
    assert red != blue


def test_a_cut_ends_every_track() -> None:
    person = [(200.0, 100.0, RED)]
    first = [(float(t), person, room((30, 60, 30))) for t in range(3)]
    second = [(float(t), person, room((230, 220, 200))) for t in range(3, 6)]
    assert tracks(first + second) == [[1], [1], [1], [2], [2], [2]]


def test_a_short_absence_does_not_end_a_track_and_a_long_one_does() -> None:
    person = [(200.0, 100.0, RED)]
    assert tracks([(0.0, person, room()), (1.0, [], room()), (2.0, person, room())]) == [[1], [], [1]]
    gone = [(float(t), [], room()) for t in range(1, 9)]
    assert tracks([(0.0, person, room()), *gone, (9.0, person, room())])[-1] == [2]


def test_samples_far_apart_still_make_a_track() -> None:
    person = [(200.0, 100.0, RED)]
    assert tracks([(30.0 * t, person, room()) for t in range(4)]) == [[1]] * 4


def test_someone_else_in_the_same_place_is_someone_else() -> None:
    assert tracks([(0.0, [(80.0, 100.0, RED)], room()), (0.5, [(260.0, 100.0, BLUE)], room())]) == [[1], [2]]


def test_two_faces_of_one_frame_never_share_a_track() -> None:
    steps = [(0.0, [(200.0, 100.0, RED)], room()), (0.5, [(195.0, 100.0, RED), (290.0, 100.0, RED)], room())]
    assert tracks(steps) == [[1], [1, 2]]


def letterboxed(color: tuple[int, int, int]) -> np.ndarray:
    """A room between black bars, which take most of the picture and keep its colors from changing much in a cut."""
    pixels = room(color)
    pixels[:, :160] = pixels[:, 480:] = 0
    pixels[:60] = pixels[300:] = 0
    return pixels


def test_somebody_else_cut_in_between_black_bars_is_somebody_else() -> None:
    genuine = [(t * 0.5, [(280.0, 140.0, RED)], letterboxed((90, 90, 90))) for t in range(4)]
    inserted = [(t * 0.5, [(285.0, 138.0, BLUE)], letterboxed((220, 210, 180))) for t in range(4, 6)]
    again = [(t * 0.5, [(280.0, 140.0, RED)], letterboxed((90, 90, 90))) for t in range(6, 8)]
    numbers = tracks(genuine + inserted + again)
    assert numbers[:6] == [[1]] * 4 + [[2]] * 2
    assert numbers[6] == numbers[7] != [2]


def test_somebody_else_steps_where_a_person_was() -> None:
    steps = [(0.0, [(280.0, 140.0, RED)], room()), (0.5, [(290.0, 140.0, BLUE)], room())]
    assert tracks(steps) == [[1], [2]]


def test_what_moves_behind_a_person_does_not_end_a_track() -> None:
    scenery = np.hstack([room((90, 110, 90)), room((150, 140, 120))])
    steps = [(t * 0.5, [(200.0, 100.0, RED)], scenery[:, 90 * t : 90 * t + 640]) for t in range(7)]
    assert tracks(steps) == [[1]] * 7


class CountingDetector(FaceDetector):
    """Counts the frames it searches."""

    searched = 0

    def detect(
        self, frames: Sequence[Pixels], config: FaceConfig | None = None, *, any_size: bool = False
    ) -> list[list[Face]]:
        self.searched += len(frames)
        return super().detect(frames, config, any_size=any_size)


@pytest.fixture
def detector() -> CountingDetector:
    return CountingDetector()


def walk(count: int) -> list[Pixels]:
    """A head that walks to the right and comes nearer."""
    return [scene(SIZE, (100.0 + 12 * n, 180.0), 80.0 + 3 * n) for n in range(count)]


def timed(pictures: Sequence[Pixels], gap_s: float = 0.2) -> list[Frame]:
    return [Frame(n * gap_s, n, pixels) for n, pixels in enumerate(pictures)]


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_a_walking_person_is_followed(detector: CountingDetector, batch: int) -> None:
    frames = timed(walk(16))
    follower = FaceFollower(detector, interval=4)
    found = [faces for start in range(0, 16, batch) for faces in follower.find(frames[start : start + batch])]
    assert detector.searched == 4
    parity = Parity()
    for searched, faces in zip(detector.detect([frame.pixels for frame in frames]), found, strict=True):
        parity.add(searched, faces)
    assert parity.found == parity.wanted == 16
    assert parity.extra == 0
    assert np.mean(parity.landmarks) < 0.03


def test_samples_far_apart_are_all_searched(detector: CountingDetector) -> None:
    found = FaceFollower(detector).find(timed(walk(4), gap_s=2.0))
    assert detector.searched == 4
    assert all(found)


def test_a_newcomer_is_found_when_the_next_search_is_due(detector: CountingDetector) -> None:
    pictures = [two_people(second=n >= 5) for n in range(12)]
    follower = FaceFollower(detector, interval=4)
    found = [faces for frame in timed(pictures) for faces in follower.find([frame])]
    assert [len(faces) for faces in found] == [1] * 8 + [2] * 4
    assert detector.searched == 3
    # With later samples at hand, what the next search finds is looked for in those before it.
    assert [len(faces) for faces in FaceFollower(detector, interval=4).find(timed(pictures))] == [1] * 5 + [2] * 7


def test_a_cut_is_searched(detector: CountingDetector) -> None:
    before = scene(SIZE, (160.0, 180.0), 110.0)
    after = np.where(swapped() == 90, 230, swapped()).astype(np.uint8)
    found = FaceFollower(detector, interval=8).find(timed([before, before, after, after]))
    assert detector.searched == 2
    assert [faces[0].box[0] > 320 for faces in found] == [False, False, True, True]


def test_a_lost_face_is_searched_for(detector: CountingDetector) -> None:
    here, there = scene(SIZE, (120.0, 180.0), 110.0), scene(SIZE, (500.0, 180.0), 110.0)
    found = FaceFollower(detector, interval=8).find(timed([here, there, there]))
    assert [faces[0].box[0] > 320 for faces in found] == [False, True, True]
    assert detector.searched == 2


def test_a_face_that_moved_aside_is_found_without_a_search(detector: CountingDetector) -> None:
    pictures = [scene(SIZE, (200.0 + 45 * n, 180.0), 110.0) for n in range(4)]
    found = FaceFollower(detector, interval=8).find(timed(pictures, gap_s=0.5))
    assert [len(faces) for faces in found] == [1] * 4
    assert detector.searched == 1


def test_nothing_in_nothing_out(detector: CountingDetector) -> None:
    assert FaceFollower(detector).find([]) == []
    blank = np.full((360, 640, 3), 90, np.uint8)
    assert FaceFollower(detector).find(timed([blank] * 3)) == [[], [], []]
