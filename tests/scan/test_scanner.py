from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.errors import (
    ModelError,
    ModelNotFoundError,
    StoppedError,
    TooLongError,
    UnreadableFileError,
    UsageError,
)
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.records import Reason, Status, Verdict, VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.scanner import Scanner, scan_video
from torchfakes_cli.video.options import SamplingConfig

QUICK = ScanConfig(sampling=SamplingConfig(frames=2, frames_fixed=True))


@pytest.fixture(scope="module")
def both(clips: Path, detector: Detector) -> VideoResult:
    return scan_video(clips / "both.mp4", detector=detector)


def test_the_most_suspicious_person_decides(both: VideoResult) -> None:
    assert both.status is Status.OK
    assert both.verdict is Verdict.FAKE
    natural, blue = both.tracks
    assert natural.logit < -1 < 1 < blue.logit
    assert both.p_fake == blue.p_fake
    assert blue.start_s <= both.peak_time_s <= blue.end_s


def test_people_are_told_apart_and_timed(both: VideoResult) -> None:
    natural, blue = both.tracks
    assert (natural.start_s, natural.faces) == (0.0, 24)
    assert blue.start_s == pytest.approx(1.0)
    assert blue.faces == 12


def test_the_timeline_has_a_row_a_face_in_order_of_time(both: VideoResult) -> None:
    times = [row.time_s for row in both.timeline]
    assert times == sorted(times)
    assert len(both.timeline) == 24 + 12
    assert both.frames_sampled == 24
    assert all(row.p_fake is not None and row.sharpness > 30 for row in both.timeline)
    assert both.faces_scored == 36


def test_scores_do_not_depend_on_the_batches(clips: Path, detector: Detector) -> None:
    # Too far apart for faces to be followed: that looks ahead, as far as the batch goes.
    sampling = SamplingConfig(frames=3, frames_fixed=True)
    one, several = (
        scan_video(clips / "both.mp4", ScanConfig(sampling=sampling, batch_frames=frames), detector=detector)
        for frames in (16, 2)
    )
    assert [row.logit for row in several.timeline] == pytest.approx([row.logit for row in one.timeline], abs=1e-3)
    assert [row.track for row in several.timeline] == [row.track for row in one.timeline]


def test_what_comes_before_the_end_is_all_that_counts(clips: Path, detector: Detector) -> None:
    config = ScanConfig(sampling=SamplingConfig(end_s=1.0, frames=4, frames_fixed=True))
    result = scan_video(clips / "both.mp4", config, detector=detector)
    assert result.verdict is Verdict.REAL
    assert result.frames_sampled == 4


def test_a_video_without_a_face_is_a_result(clips: Path, detector: Detector) -> None:
    result = scan_video(clips / "empty.mp4", detector=detector)
    assert (result.status, result.verdict, result.reason) == (Status.OK, Verdict.INCONCLUSIVE, Reason.NO_FACE)
    assert result.p_fake is None
    assert [row.note for row in result.timeline] == ["no_face"] * 6


def test_blurry_faces_get_no_score(clips: Path, detector: Detector) -> None:
    config = ScanConfig(sampling=SamplingConfig(frames=4, frames_fixed=True), faces=FaceConfig(blur_threshold=1e6))
    result = scan_video(clips / "both.mp4", config, detector=detector)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.ALL_BLURRY)
    assert result.faces_scored == 0
    assert {row.note for row in result.timeline} == {"blurry"}


def test_progress_ends_at_the_number_of_frames(clips: Path, detector: Detector) -> None:
    steps: list[tuple[int, int | None]] = []
    scan_video(clips / "empty.mp4", detector=detector, progress=lambda done, wanted: steps.append((done, wanted)))
    assert steps[-1] == (6, 6)


def test_a_missing_file_is_told_before_any_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        Scanner(model=tmp_path / "missing.safetensors").scan(tmp_path / "missing.mp4")


def test_a_missing_model_is_told_and_looked_for_again(clips: Path, tmp_path: Path) -> None:
    place = tmp_path / "late.safetensors"
    with Scanner(QUICK, model=place) as scanner:
        for _ in range(2):
            with pytest.raises(ModelNotFoundError):
                scanner.scan(clips / "empty.mp4")
        shutil.copy(shipped_checkpoint(), place)
        assert scanner.scan(clips / "empty.mp4").reason is Reason.NO_FACE


def test_a_span_without_frames_is_a_usage_error(clips: Path, detector: Detector) -> None:
    with pytest.raises(UsageError):
        scan_video(clips / "empty.mp4", ScanConfig(sampling=SamplingConfig(start_s=60.0)), detector=detector)


class Broken(nn.Module):
    """Scores nothing but NaN."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.mean((1, 2, 3)) * torch.nan


def test_scores_that_are_no_numbers_give_no_verdict(clips: Path) -> None:
    broken = Detector(Broken(), Header(name="broken"), torch.device("cpu"), torch.float32)
    config = ScanConfig(sampling=SamplingConfig(frames=3, frames_fixed=True))
    with pytest.raises(ModelError, match="isn't a finite number"):
        scan_video(clips / "both.mp4", config, detector=broken)


def test_a_file_that_exceeds_a_limit_is_one_error(clips: Path, detector: Detector) -> None:
    with Scanner(ScanConfig(timeout_s=0.001), detector=detector) as scanner:
        (result,) = scanner.scan_each([clips / "both.mp4"])
    assert result.status is Status.ERROR
    assert result.error.startswith("timeout: its decoder made no progress")


def test_a_scan_ends_when_it_is_told_to_and_the_next_one_works(clips: Path, detector: Detector) -> None:
    steps: list[int] = []
    with Scanner(ScanConfig(batch_frames=4), detector=detector) as scanner:
        with pytest.raises(StoppedError):
            scanner.scan(clips / "both.mp4", lambda done, _: steps.append(done), stop=lambda: bool(steps))
        assert len(steps) == 1
        assert scanner.scan(clips / "empty.mp4").reason is Reason.NO_FACE


def test_a_video_that_is_too_long_is_refused(clips: Path, detector: Detector) -> None:
    with Scanner(ScanConfig(max_length_s=1.0), detector=detector) as scanner:
        with pytest.raises(TooLongError, match=r"2\.0 s long, and 1 s"):
            scanner.scan(clips / "both.mp4")
        assert scanner.scan(clips / "empty.mp4").info is not None


def test_senseless_limits_are_refused() -> None:
    for wrong in ({"timeout_s": 0.0}, {"timeout_s": float("nan")}, {"memory_mb": 10}, {"max_length_s": 0.0}):
        with pytest.raises(UsageError):
            ScanConfig(**wrong)
