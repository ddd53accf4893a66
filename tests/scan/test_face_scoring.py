"""From faces to scored rows, and hints why no face was found."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.clips import write_clip
from tests.portraits import Pixels, scene
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.faces.crops import crop_face
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.records import Box, Face, Frame, Reason, Verdict
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.face_scoring import ALL_UP_TO, THEN_ONE_IN, Timeline, score_waiting
from torchfakes_cli.scan.scanner import scan_video
from torchfakes_cli.video.options import SamplingConfig

#: Two people; their crops reach a little further.
BOXES: tuple[Box, Box] = ((50.0, 50.0, 150.0, 150.0), (250.0, 50.0, 350.0, 150.0))
COUNT = ALL_UP_TO + 2 * THEN_ONE_IN + 3


#: Holds an item where the network is to fail next.
fails_next: list[bool] = []


class Brightness(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        if fails_next:
            raise RuntimeError(f"out of memory: {fails_next.pop()}")
        return 10 * pictures.mean((1, 2, 3))


def footage(seed: int) -> list[Frame]:
    """Two people, who become brighter at their own paces."""
    grain = np.random.default_rng(seed).integers(0, 30, (200, 400, 3))
    pace = np.repeat([2, 1], 200)[:, None] * seed / 2
    return [Frame(float(n), n, (grain + pace * n).astype(np.uint8)) for n in range(COUNT)]


@pytest.mark.parametrize("fails", [False, True])
def test_late_in_a_long_shot_one_face_in_four_is_scored(*, fails: bool) -> None:
    judge = Detector(Brightness(), Header(name="bright"), torch.device("cpu"), torch.float32)
    # Two videos, so that batches end anywhere in a shot.
    videos = [(footage(seed), Timeline(judge, FaceConfig(blur_threshold=0))) for seed in (1, 2)]
    for start in range(0, COUNT, 9):
        for frames, timeline in videos:
            part = frames[start : start + 9]
            faces = [Face(box, 0.99, ((0.0, 0.0),) * 5) for box in BOXES]  # type: ignore[arg-type]
            timeline.add(part, [faces for _ in part], COUNT)
        fails_next.extend([True] * (fails and start > ALL_UP_TO))
        assert score_waiting(judge, [timeline for _, timeline in videos]) == {}

    scored = [n < ALL_UP_TO or (n - ALL_UP_TO) % THEN_ONE_IN == 0 for n in range(COUNT)]
    for frames, timeline in videos:
        for box in BOXES:
            crops = [crop_face(frame.pixels, box, judge.margin, judge.crop_shape) for frame in frames]
            rows = [row for row in timeline.rows if row.face and row.face.box == box]
            assert [row.note for row in rows] == ["" if one else "long_shot" for one in scored]
            expected = judge.score([crop for crop, one in zip(crops, scored, strict=True) if one])
            np.testing.assert_allclose([row.logit for row in rows if row.logit is not None], expected, atol=2e-3)


SIZE = (320, 180)
EMPTY = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
ALL = ScanConfig(sampling=SamplingConfig(fps=Fraction(10)))


def warnings_of(path: Path, pictures: list[Pixels], detector: Detector) -> tuple[str, ...]:
    result = scan_video(write_clip(path, pictures, fps=10), ALL, detector=detector)
    assert result.reason is Reason.NO_FACE
    return result.warnings


def test_faces_too_small_are_told_of_though_only_the_last_frame_shows_one(tmp_path: Path, detector: Detector) -> None:
    pictures = [EMPTY] * 19 + [scene(SIZE, (160.0, 90.0), 32.0)]
    (warning,) = warnings_of(tmp_path / "far.mp4", pictures, detector)
    assert "too small" in warning
    assert "--min-face 20" in warning


@pytest.mark.parametrize(("quarters", "words"), [(1, "on their side"), (2, "upside down"), (3, "on their side")])
def test_faces_that_do_not_stand_upright_are_told_of(
    tmp_path: Path, detector: Detector, quarters: int, words: str
) -> None:
    turned = np.ascontiguousarray(np.rot90(scene((320, 320), (160.0, 160.0), 110.0), quarters))
    (warning,) = warnings_of(tmp_path / "turned.mp4", [turned] * 5, detector)
    assert words in warning


def test_faces_taken_for_upright_in_a_few_frames_of_a_turned_video_give_no_verdict(
    tmp_path: Path, detector: Detector
) -> None:
    upright = scene((320, 320), (160.0, 160.0), 110.0)
    pictures = [upright] * 4 + [np.ascontiguousarray(upright[::-1, ::-1])] * 20
    result = scan_video(write_clip(tmp_path / "turned.mp4", pictures, fps=10), ALL, detector=detector)
    assert (result.verdict, result.reason, result.p_fake) == (Verdict.INCONCLUSIVE, Reason.NO_FACE, None)
    assert result.tracks == ()
    assert len(result.timeline) == result.frames_sampled == 24
    (warning,) = result.warnings
    assert "upside down" in warning
    assert "don't count" in warning


def test_an_upside_down_still_gives_no_verdict(tmp_path: Path, detector: Detector) -> None:
    Image.fromarray(np.ascontiguousarray(scene((320, 320), (160.0, 160.0), 110.0)[::-1, ::-1])).save(
        tmp_path / "turned.png"
    )
    result = scan_video(tmp_path / "turned.png", detector=detector)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.NO_FACE)
    assert "upside down" in result.warnings[0]


def test_faces_in_a_few_frames_of_an_upright_video_count(tmp_path: Path, detector: Detector) -> None:
    upright = scene((320, 320), (160.0, 160.0), 110.0)
    pictures = [upright] * 4 + [np.full_like(upright, 90)] * 20
    result = scan_video(write_clip(tmp_path / "seldom.mp4", pictures, fps=10), ALL, detector=detector)
    assert result.verdict is Verdict.REAL
    assert result.warnings == ()


def test_where_there_is_nothing_nothing_is_told(tmp_path: Path, detector: Detector) -> None:
    assert warnings_of(tmp_path / "empty.mp4", [EMPTY] * 5, detector) == ()


def test_small_faces_beside_others_are_counted(tmp_path: Path, detector: Detector) -> None:
    crowd = np.where(np.arange(SIZE[0])[None, :, None] < 190, scene(SIZE, (95.0, 90.0), 100.0), EMPTY)
    crowd = np.where(np.arange(SIZE[0])[None, :, None] >= 230, scene(SIZE, (275.0, 90.0), 37.0), crowd)
    result = scan_video(
        write_clip(tmp_path / "crowd.mp4", [crowd.astype(np.uint8)] * 4, fps=10), ALL, detector=detector
    )
    assert len(result.tracks) == 1
    assert result.warnings == ("faces under 32 pixels left out: 4 (see --min-face)",)
