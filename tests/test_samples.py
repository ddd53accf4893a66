"""The sample videos and the detector that ships: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchfakes_cli import Reason, SamplingConfig, ScanConfig, Verdict, VideoResult, scan_video
from torchfakes_cli.detector.calibration import error_rates
from torchfakes_cli.detector.checkpoint import load_header
from torchfakes_cli.detector.registry import shipped_checkpoint

SAMPLES = Path(__file__).parents[1] / "sample_videos"


@pytest.fixture(scope="module")
def results() -> dict[str, VideoResult]:
    config = ScanConfig(sampling=SamplingConfig(frames=8, frames_fixed=True), device="cpu")
    return {path.stem: scan_video(path, config) for path in SAMPLES.glob("*.mp4")}


def test_the_samples_are_told_apart(results: dict[str, VideoResult]) -> None:
    real, fake, empty = (results[name] for name in ("astronaut_real", "astronaut_fake", "launch_no_face"))
    assert (empty.verdict, empty.reason, empty.p_fake) == (Verdict.INCONCLUSIVE, Reason.NO_FACE, None)
    assert real.p_fake is not None
    assert fake.p_fake is not None
    assert real.p_fake < fake.p_fake
    # The detector is sure of neither: the README shows it so.
    assert {real.reason, fake.reason} == {Reason.BETWEEN_THRESHOLDS}


def test_the_samples_are_what_they_were_made_as(results: dict[str, VideoResult]) -> None:
    for result in results.values():
        assert result.info is not None
        assert (result.info.width, result.info.height, result.info.fps) == (1920, 1080, 30)


def test_the_samples_are_small() -> None:
    clips = list(SAMPLES.glob("*.mp4"))
    assert len(clips) == 3
    assert sum(clip.stat().st_size for clip in clips) < 4.2e6


def test_the_detector_that_ships_says_what_it_is() -> None:
    header = load_header(shipped_checkpoint())
    card = (shipped_checkpoint().parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert header.name in card
    assert header.licence == "Apache-2.0"
    assert error_rates(header) is not None
    assert header.calibrated_on
    assert shipped_checkpoint().stat().st_size < 50e6
