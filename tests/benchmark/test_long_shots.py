"""What it changes that only some of a long shot's faces are scored. Prints; asserts nothing.

TORCHFAKES_CLIPS=media pytest -m benchmark -s tests/benchmark/test_long_shots.py
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from torchfakes_cli import VideoResult
from torchfakes_cli.scan import face_scoring
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.video.options import SamplingConfig

pytestmark = pytest.mark.benchmark
CLIPS = sorted(Path(os.environ["TORCHFAKES_CLIPS"]).rglob("*.mp4"))[::5] if "TORCHFAKES_CLIPS" in os.environ else []


@pytest.mark.skipif(not CLIPS, reason="TORCHFAKES_CLIPS is not set")
@pytest.mark.parametrize(("fps", "first"), [(12, face_scoring.ALL_UP_TO), (1, 0)])
def test_long_shots(fps: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second few clips are long enough, so that the rule is tried from the first face on there."""
    config = ScanConfig(sampling=SamplingConfig(fps=Fraction(fps)))

    def scans(first: int) -> list[VideoResult]:
        monkeypatch.setattr(face_scoring, "ALL_UP_TO", first)
        with Scanner(config) as scanner:
            return [scanner.scan(path) for path in CLIPS]

    videos, changed = [], 0
    for some, every in zip(scans(first), scans(10**9), strict=True):
        if some.p_fake is not None and every.p_fake is not None and some.faces_scored < every.faces_scored:
            videos.append(abs(some.p_fake - every.p_fake))
            changed += some.verdict is not every.verdict
    if not videos:
        pytest.skip("no clip shows a person long enough")
    print(f"\n{len(videos)} clips, {fps} samples a second, one face in {face_scoring.THEN_ONE_IN} after {first}:")
    print(f"videos change by {np.mean(videos):.3f} on average, {max(videos):.3f} at most, verdicts {changed} times")
