"""What it changes that the network judges only some of a long shot's faces. Prints; asserts nothing.

TORCHFAKES_CLIPS=media pytest -m benchmark -s tests/benchmark/test_long_shots.py
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from torchfakes_cli import VideoResult
from torchfakes_cli.config import SamplingConfig, ScanConfig
from torchfakes_cli.scan import Scanner, timeline

pytestmark = pytest.mark.benchmark
CLIPS = sorted(Path(os.environ["TORCHFAKES_CLIPS"]).rglob("*.mp4"))[::5] if "TORCHFAKES_CLIPS" in os.environ else []


@pytest.mark.skipif(not CLIPS, reason="TORCHFAKES_CLIPS is not set")
def test_long_shots(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ScanConfig(sampling=SamplingConfig(fps=Fraction(12)))

    def scans() -> list[VideoResult]:
        with Scanner(config) as scanner:
            return [scanner.scan(path) for path in CLIPS]

    some = scans()
    monkeypatch.setattr(timeline, "NETWORK_FIRST", 10**9)
    pairs = [
        (one, other) for one, other in zip(some, scans(), strict=True)
        if max((track.faces_scored for track in one.tracks), default=0) > 64
    ]  # fmt: skip
    videos = [abs(one.p_fake - other.p_fake) for one, other in pairs if one.p_fake is not None and other.p_fake]
    faces = [
        abs(a.p_fake - b.p_fake)
        for one, other in pairs
        for a, b in zip(one.timeline, other.timeline, strict=True)
        if a.p_fake is not None and b.p_fake is not None
    ]
    changed = sum(one.verdict is not other.verdict for one, other in pairs)
    print(f"\n{len(pairs)} clips with a person's shot of more than 64 faces, 12 samples a second: probabilities change "
          f"by {np.mean(videos):.3f} on average, {max(videos):.3f} at most, those of faces by {np.mean(faces):.3f}, "
          f"verdicts {changed} times")  # fmt: skip
