"""The cascade finds what facenet-pytorch's own driver finds, and has no trouble where that one fails."""

from __future__ import annotations

import numpy as np
import pytest
from facenet_pytorch import MTCNN

from tests.portraits import scene
from torchfakes_cli.config import FaceConfig
from torchfakes_cli.faces.cascade import FaceDetector
from torchfakes_cli.records import Box

SCENES = [
    ((640, 360), (320.0, 180.0), 60.0),
    ((640, 360), (120.0, 150.0), 100.0),
    ((640, 360), (480.0, 200.0), 240.0),
    ((360, 640), (200.0, 320.0), 150.0),
    ((1280, 720), (900.0, 300.0), 90.0),
]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(FaceConfig(min_face=40))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_it_agrees_with_facenet_pytorch(detector: FaceDetector) -> None:
    reference = MTCNN(min_face_size=40, keep_all=True, device="cpu")
    for size, centre, height in SCENES:
        picture = scene(size, centre, height)
        boxes, confidences, landmarks = reference.detect(picture, landmarks=True)
        (face,) = detector.detect([picture])[0]
        best = int(np.argmax(confidences))
        assert overlap(face.box, tuple(boxes[best])) > 0.8
        width = face.box[2] - face.box[0]
        assert np.abs(np.array(face.landmarks) - landmarks[best]).max() < 0.06 * width


def test_frames_of_mixed_sizes_in_one_call_give_each_its_own(detector: FaceDetector) -> None:
    pictures = [scene(*arguments) for arguments in SCENES]
    blank = np.full((360, 640, 3), 90, np.uint8)
    together = detector.detect([*pictures, blank])
    assert together[-1] == []
    for picture, faces in zip(pictures, together, strict=False):
        (alone,) = detector.detect([picture])[0]
        assert overlap(faces[0].box, alone.box) > 0.98


@pytest.mark.parametrize("shape", [(1, 1, 3), (11, 400, 3), (19, 19, 3), (40, 40, 3)])
def test_frames_too_small_for_a_face_hold_none(detector: FaceDetector, shape: tuple[int, int, int]) -> None:
    assert detector.detect([np.full(shape, 200, np.uint8)]) == [[]]


def test_no_frames_no_faces(detector: FaceDetector) -> None:
    assert detector.detect([]) == []


def test_faces_below_the_minimum_are_left_out() -> None:
    small = scene((640, 360), (320.0, 180.0), 60.0)
    assert len(FaceDetector(FaceConfig(min_face=40)).detect([small])[0]) == 1
    assert FaceDetector(FaceConfig(min_face=120)).detect([small]) == [[]]


def test_the_largest_face_comes_first(detector: FaceDetector) -> None:
    picture = scene((1280, 720), (300.0, 300.0), 80.0)
    picture[:, 640:] = scene((640, 720), (320.0, 360.0), 200.0)
    faces = detector.detect([picture])[0]
    assert len(faces) == 2
    assert faces[0].size > faces[1].size
    assert faces[0].box[0] > 640


def test_landmarks_lie_where_a_face_has_them(detector: FaceDetector) -> None:
    (face,) = detector.detect([scene((640, 360), (320.0, 180.0), 150.0)])[0]
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_a_face_at_the_border_is_found_and_its_box_may_leave_the_frame(detector: FaceDetector) -> None:
    (face,) = detector.detect([scene((640, 360), (25.0, 180.0), 150.0)])[0]
    assert face.box[0] < 10
