"""Where the time of a corpus goes: prepare against decoding and detection in the same run. Prints; asserts no time.

pytest -m benchmark -s
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.clips import write_clip
from tests.portraits import scene
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora.base import SourceVideo
from torchfakes_cli.training.crops.extract import DETECTION_BATCH
from torchfakes_cli.training.crops.parts import Task, extract
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

pytestmark = pytest.mark.benchmark
FRAMES = 500
#: FaceForensics++: originals, fakes of the four methods, and the cores of a small laptop.
ORIGINALS, FAKES, CORES = 1000, 4000, 2


def talking_head(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """A face that sways before a camera's noise, at 30 frames a second."""
    width, height = size
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 13, (height + 32, width + 32, 3), dtype=np.uint8)
    phases = np.arange(40)
    places = zip(width / 2 + 10 * np.sin(phases / 5), height / 2 + 6 * np.cos(phases / 7), strict=True)
    heads = [scene(size, place, height * 0.35 * (1 + 0.03 * np.sin(n / 4))) for n, place in enumerate(places)]
    for number in range(FRAMES):
        dy, dx = rng.integers(0, 32, 2)
        yield np.asarray(cv2.add(heads[number // 3 % 40], grain[dy : dy + height, dx : dx + width]), np.uint8)


def decode(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as video:
        sampling = SamplingConfig(frames=PrepareConfig().frames_per_video, frames_fixed=True)
        return [frame.pixels for frame in video.frames(sampling)]


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (1920, 1080)])
def test_prepare_against_decoding_and_detection(size: tuple[int, int], tmp_path: Path) -> None:
    options = {"preset": "veryfast", "crf": "23", "g": "250", "bf": "3"}
    path = write_clip(tmp_path / "clip.mp4", talking_head(size), fps=Fraction(30), options=options)
    blue = (np.ascontiguousarray(frame[..., ::-1]) for frame in talking_head(size))
    other = write_clip(tmp_path / "fake.mp4", blue, fps=Fraction(30), options=options)
    original = SourceVideo(path, "real/clip", "real", "youtube", "a")
    fake = SourceVideo(other, "fake/clip", "fake", "Deepfakes", "a", source="real/clip")
    config = PrepareConfig(faces=FaceConfig())
    (tmp_path / "parts").mkdir()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector = FaceDetector()
    decode(path)  # the first time is no measure

    def seconds(work: object) -> float:
        # Time of this process alone: others may be at work.
        started = time.process_time()
        work()  # type: ignore[operator]
        return time.process_time() - started

    def detect_all() -> None:
        frames = decode(path)
        for start in range(0, len(frames), DETECTION_BATCH):
            detector.detect(frames[start : start + DETECTION_BATCH])

    extract(Task(original, (original,), ("train",)), tmp_path, config)  # loads the networks
    decode_s, bare_s = seconds(lambda: decode(path)), seconds(detect_all)
    original_s = seconds(lambda: extract(Task(original, (original,), ("train",)), tmp_path, config))
    pair_s = seconds(lambda: extract(Task(original, (original, fake), ("train", "train")), tmp_path, config))
    hours = (ORIGINALS * original_s + FAKES * (pair_s - original_s)) / CORES / 3600
    print(
        f"\n{FRAMES} frames of {size[0]}×{size[1]}, {config.frames_per_video} samples, one core:"
        f"\n  decoding {decode_s:.2f} s, decoding and detection {bare_s:.2f} s"
        f"\n  an original {original_s:.2f} s: {original_s / bare_s:.2f} times decoding and detection"
        f"\n  a fake of it {pair_s - original_s:.2f} s: {(pair_s - original_s) / decode_s:.2f} times decoding"
        f"\n  on {CORES} cores {ORIGINALS} originals take {ORIGINALS * original_s / CORES / 3600:.1f} h, "
        f"with their {FAKES} fakes {hours:.1f} h"
    )
