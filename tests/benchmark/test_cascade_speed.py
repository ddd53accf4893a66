"""How fast faces are found, against facenet-pytorch's MTCNN at equal settings in the same run. Prints; asserts no time.

pytest -m benchmark -s tests/benchmark/test_cascade_speed.py

Faces are rendered. With TORCHFAKES_CLIPS, a folder of videos, parity and following are measured on real ones too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN

from tests.faces.parity import Parity, crowd, reference_faces
from tests.portraits import Pixels, scene
from torchfakes_cli.faces import tracking
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.tracking import FaceFollower
from torchfakes_cli.records import Frame
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

pytestmark = pytest.mark.benchmark
CLIPS = sorted(Path(os.environ["TORCHFAKES_CLIPS"]).rglob("*.mp4")) if "TORCHFAKES_CLIPS" in os.environ else []
HD = (1920, 1080)
#: Settings of facenet-pytorch's driver, which are those of ours: thresholds, and the factor of the pyramid.
CONFIDENCE = 0.7


def fastest(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of the fastest round, after one that isn't counted."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def against_reference(frames: list[Pixels], min_face: int, device: str = "cpu") -> str:
    """Milliseconds a frame of both, and how far they agree."""
    reference = MTCNN(min_face_size=min_face, keep_all=True, device=device)
    own = FaceDetector(FaceConfig(min_face=min_face, confidence=CONFIDENCE), device)
    stacked = np.stack(frames)

    def search() -> list[object]:
        return own.detect(frames, any_size=True)  # type: ignore[return-value]

    own_s = fastest(search)
    reference_s = fastest(lambda: reference.detect(stacked, landmarks=True), 2)
    own_s = min(own_s, fastest(search))  # around the reference's, should the machine's speed drift
    parity = Parity()
    for frame, faces in zip(frames, own.detect(frames, any_size=True), strict=True):
        parity.add(reference_faces(reference, frame), faces)
    a, b = own_s / len(frames) * 1e3, reference_s / len(frames) * 1e3
    return f"{a:6.1f} ms against {b:6.1f} ms: {b / a:4.1f} times as fast; {parity}"


@pytest.mark.parametrize("min_face", [20, 40, 80])
@pytest.mark.parametrize("batch", [1, 8])
def test_by_smallest_face_and_batch(min_face: int, batch: int) -> None:
    frames = [crowd(HD, 2, seed) for seed in range(batch)]
    print(f"\n1080p, 2 people, min_face {min_face}, batch {batch}: {against_reference(frames, min_face)}")


@pytest.mark.parametrize("people", [0, 1, 4, 16])
def test_by_people(people: int) -> None:
    frames = [crowd(HD, people, seed) for seed in range(4)]
    print(f"\n1080p, {people} people, min_face 40, batch 4: {against_reference(frames, 40)}")


@pytest.mark.parametrize("size", [(640, 360), (1280, 720), (3840, 2160)])
def test_by_resolution(size: tuple[int, int]) -> None:
    frames = [crowd(size, 2, seed) for seed in range(2)]
    print(f"\n{size[0]}×{size[1]}, 2 people, min_face 40, batch 2: {against_reference(frames, 40)}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("min_face", [20, 40])
def test_on_a_graphics_card(min_face: int) -> None:
    frames = [crowd(HD, 2, seed) for seed in range(32)]
    print(f"\nCUDA, 1080p, 2 people, min_face {min_face}, batch 32: {against_reference(frames, min_face, 'cuda')}")


@pytest.fixture(autouse=True)
def following_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are followed however far apart the samples lie: the measurement shows how far that goes."""
    monkeypatch.setattr(tracking, "SEARCH_INTERVAL_S", inf)
    monkeypatch.setattr(tracking, "FOLLOW_GAP_S", inf)


def followed(clips: list[list[Frame]], detector: FaceDetector) -> str:
    """How much faster clips are done with following, and how far the faces agree with those of searches."""
    batches = [[clip[start : start + 16] for start in range(0, len(clip), 16)] for clip in clips]

    def search() -> list[list[list[object]]]:
        return [[detector.detect([f.pixels for f in part], any_size=True) for part in clip] for clip in batches]  # type: ignore[misc]

    def follow() -> None:
        for clip in batches:
            follower = FaceFollower(detector)
            for part in clip:
                follower.find(part)

    search_s, follow_s = fastest(search, 1), fastest(follow, 1)
    parity = Parity()
    for clip in batches:
        follower = FaceFollower(detector)
        for part in clip:
            wanted = detector.detect([frame.pixels for frame in part], any_size=True)
            for theirs, ours in zip(wanted, follower.find(part), strict=True):
                parity.add(theirs, ours)
    return f"{search_s / follow_s:.1f} times as fast as searches; {parity}"


def test_following_rendered() -> None:
    wall = crowd(HD, 0, 0)
    clip = []
    for number in range(32):
        pixels = wall.copy()
        x, y = int(640 + 500 * np.sin(number / 12)), int(220 + 80 * np.cos(number / 9))
        pixels[y : y + 640, x : x + 640] = scene((640, 640), (320.0, 320.0), 220.0 + 2 * number)
        clip.append(Frame(number * 0.2, number, pixels))
    print(f"\n1080p, a head that walks, 5 samples a second: {followed([clip], FaceDetector())}")


@pytest.mark.skipif(not CLIPS, reason="TORCHFAKES_CLIPS is not set")
@pytest.mark.parametrize("gap_s", [0.1, 0.25, 0.5, 1.0])
def test_following_real_clips(gap_s: float) -> None:
    clips = []
    for path in CLIPS[:: -(-len(CLIPS) // 24)]:
        with VideoReader(path) as video:
            clips.append(list(islice(video.frames(SamplingConfig(fps=Fraction(1 / gap_s))), 32)))
    clips = [clip for clip in clips if len(clip) > 2]
    print(f"\n{len(clips)} clips, {gap_s} s between samples: {followed(clips, FaceDetector())}")


@pytest.mark.skipif(not CLIPS, reason="TORCHFAKES_CLIPS is not set")
@pytest.mark.parametrize("min_face", [20, 40])
def test_parity_on_real_clips(min_face: int) -> None:
    reference = MTCNN(min_face_size=min_face, keep_all=True, device="cpu")
    own = FaceDetector(FaceConfig(min_face=min_face, confidence=CONFIDENCE))
    parity = Parity()
    for path in CLIPS[:: -(-len(CLIPS) // 60)]:
        with VideoReader(path) as video:
            frames = [f.pixels for f in video.frames(SamplingConfig(frames=3, frames_fixed=True))]
        for frame, faces in zip(frames, own.detect(frames, any_size=True), strict=True):
            parity.add(reference_faces(reference, frame), faces)
    print(f"\nreal frames, min_face {min_face}: {parity}")
