"""The sample videos and the detector that ships: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchfakes_cli import Reason, SamplingConfig, ScanConfig, Verdict, scan_video
from torchfakes_cli.detector import load_detector
from torchfakes_cli.detector.registry import shipped_checkpoint

SAMPLES = Path(__file__).parents[1] / "sample_videos"


@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("astronaut_real.mp4", Verdict.REAL, None),
        ("astronaut_fake.mp4", Verdict.FAKE, None),
        ("launch_no_face.mp4", Verdict.INCONCLUSIVE, Reason.NO_FACE),
    ],
)
def test_each_sample_gets_its_verdict(name: str, verdict: Verdict, reason: Reason | None) -> None:
    config = ScanConfig(sampling=SamplingConfig(frames=8, frames_fixed=True), device="cpu")
    result = scan_video(SAMPLES / name, config)
    assert (result.verdict, result.reason) == (verdict, reason)
    assert result.info is not None
    assert (result.info.width, result.info.height, result.info.fps) == (1920, 1080, 30)


def test_the_samples_are_small() -> None:
    clips = list(SAMPLES.glob("*.mp4"))
    assert len(clips) == 3
    assert sum(clip.stat().st_size for clip in clips) < 4.2e6


def test_the_detector_that_ships_says_what_it_is() -> None:
    header = load_detector(device="cpu").header
    assert header.name == "torchfakes-5"
    assert header.licence == "Apache-2.0"
    assert header.metrics["test"]["videos"] == 42
    assert header.calibrated_on
    assert shipped_checkpoint().stat().st_size < 50e6
    assert (shipped_checkpoint().parent / "MODEL_CARD.md").is_file()
