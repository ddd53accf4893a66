"""Faces are followed between searches, and none is missed for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.faces.parity import Parity
from tests.people import SIZE, swapped, two_people
from tests.portraits import Pixels, scene
from torchfakes_cli.faces.cascade import FaceDetector
from torchfakes_cli.faces.follow import FaceFollower
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.records import Face, Frame


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
