"""The cascade finds what facenet-pytorch's own driver finds, and has no trouble where that one fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from hypothesis import given
from hypothesis import strategies as st

from tests.faces.parity import Parity, crowd, reference_faces
from tests.portraits import scene
from torchfakes_cli.faces.crops import iou
from torchfakes_cli.faces.mtcnn import FaceDetector, non_maximum_suppression
from torchfakes_cli.faces.networks import CandidateNetwork, ProposalNetwork, load_weights
from torchfakes_cli.faces.options import FaceConfig

corner = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(8, 30), st.integers(8, 30))
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


@pytest.mark.parametrize("min_face", [20, 40])
def test_it_agrees_with_facenet_pytorch(min_face: int) -> None:
    frames = [crowd((640, 360), 4, seed) for seed in range(2)]
    if min_face == 40:  # the smaller the faces looked for, the longer the reference takes
        frames += [*(scene(*arguments) for arguments in SCENES), *(crowd((960, 540), 9, seed) for seed in range(2))]
    reference = MTCNN(min_face_size=min_face, keep_all=True, device="cpu")
    detector = FaceDetector(FaceConfig(min_face=min_face, confidence=0.7))
    parity = Parity()
    for frame, faces in zip(frames, detector.detect(frames, any_size=True), strict=True):
        parity.add(reference_faces(reference, frame), faces)
    assert parity.wanted >= len(frames)
    assert parity.found >= 0.97 * parity.wanted
    assert parity.extra <= 0.03 * parity.wanted
    assert np.mean(parity.landmarks) < 0.03


def test_the_networks_are_facenet_pytorchs() -> None:
    pixels = torch.from_numpy(crowd((128, 96), 0, 0))[None]
    planes = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 128
    cpu, exact = torch.device("cpu"), torch.float32
    with torch.inference_mode():
        logits, offsets = ProposalNetwork(load_weights("pnet"), cpu, exact)(pixels)
        theirs, scores = PNet()(planes)
        torch.testing.assert_close(logits.sigmoid(), scores[:, 1], atol=1e-4, rtol=0)
        torch.testing.assert_close(offsets.permute(0, 3, 1, 2), theirs, atol=1e-4, rtol=0)
        for name, network in (("rnet", RNet()), ("onet", ONet())):
            own = CandidateNetwork(load_weights(name), cpu, exact)
            *rest, scores = network(planes[..., : own.side, : own.side])
            wanted = torch.cat([scores[:, 1:], *rest], 1)
            torch.testing.assert_close(own(pixels[:, : own.side, : own.side]), wanted, atol=1e-4, rtol=0)


def test_a_face_is_found_again_from_where_it_was(detector: FaceDetector) -> None:
    pictures = [scene((640, 360), (x, 180.0), 110.0) for x in (300.0, 312.0)]
    (before,), (after,) = detector.detect(pictures)
    again = detector.refine([*pictures[1:], pictures[0], pictures[1]], [[before.box], [], [(0.0, 0.0, 90.0, 90.0)]])
    assert iou(again[0][0].box, after.box) > 0.9
    assert again[1:] == [[], []]


@pytest.mark.gpu
def test_a_graphics_card_finds_the_same_faces() -> None:
    config = FaceConfig(min_face=30)
    frames = [scene(*arguments) for arguments in SCENES]
    frames += [crowd((1920, 1080), 60, 0), np.full((40, 40, 3), 90, np.uint8)]
    on_cpu, on_card = FaceDetector(config).detect(frames), FaceDetector(config, "cuda").detect(frames)
    parity = Parity()
    for ours, theirs in zip(on_cpu, on_card, strict=True):
        parity.add(ours, theirs)
    assert parity.found >= 0.97 * parity.wanted
    assert parity.extra <= 0.03 * parity.wanted
    assert np.mean(parity.landmarks) < 0.02


def test_frames_of_mixed_sizes_in_one_call_give_each_its_own(detector: FaceDetector) -> None:
    pictures = [scene(*arguments) for arguments in SCENES]
    blank = np.full((360, 640, 3), 90, np.uint8)
    together = detector.detect([*pictures, blank])
    assert together[-1] == []
    for picture, faces in zip(pictures, together, strict=False):
        (alone,) = detector.detect([picture])[0]
        assert iou(faces[0].box, alone.box) > 0.98


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


@given(st.lists(st.lists(corner, max_size=12), min_size=1, max_size=3), st.sampled_from([0.3, 0.5, 0.7]))
def test_what_overlaps_a_better_one_that_is_kept_goes(pictures: list[list[tuple[int, ...]]], threshold: float) -> None:
    owners, boxes, wanted = [], [], []
    for number, corners in enumerate(pictures):
        kept: list[tuple[float, float, float, float]] = []
        for x, y, w, h in corners:
            box = (float(x), float(y), float(x + w), float(y + h))
            if all(iou(box, better) <= threshold for better in kept):
                kept.append(box)
                wanted.append(len(boxes))
            owners.append(number)
            boxes.append(box)
    found = non_maximum_suppression(torch.tensor(owners), torch.tensor(boxes).view(-1, 4), threshold)
    assert found.tolist() == wanted


@pytest.mark.parametrize(("contained", "kept"), [(False, [0, 1]), (True, [0])])
def test_a_small_box_in_a_large_one_counts_as_the_same_if_asked(contained: bool, kept: list[int]) -> None:
    boxes = torch.tensor([[0.0, 0.0, 99.0, 99.0], [30.0, 30.0, 59.0, 59.0]])
    assert non_maximum_suppression(torch.tensor([0, 0]), boxes, 0.7, contained=contained).tolist() == kept
