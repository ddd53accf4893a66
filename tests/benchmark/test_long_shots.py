"""What it changes that the network judges only some of a long shot's faces. Prints; asserts nothing.

TORCHFAKES_CLIPS=media pytest -m benchmark -s tests/benchmark/test_long_shots.py
"""

from __future__ import annotations

import os
from collections import Counter
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
@pytest.mark.parametrize(("fps", "first"), [(12, timeline.NETWORK_FIRST), (1, 0)])
def test_long_shots(fps: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second few clips are long enough, so that there all faces but each eighth are told by others' network."""
    config = ScanConfig(sampling=SamplingConfig(fps=Fraction(fps)))

    def scans(first: int) -> list[VideoResult]:
        monkeypatch.setattr(timeline, "NETWORK_FIRST", first)
        with Scanner(config) as scanner:
            return [scanner.scan(path) for path in CLIPS]

    videos, faces, changed = [], [], 0
    for some, every in zip(scans(first), scans(10**9), strict=True):
        long = {track.number for track in some.tracks if track.faces_scored > first + timeline.NETWORK_EACH}
        if not long or some.p_fake is None or every.p_fake is None:
            continue
        videos.append(abs(some.p_fake - every.p_fake))
        changed += some.verdict is not every.verdict
        of_track: Counter[int] = Counter()
        for a, b in zip(some.timeline, every.timeline, strict=True):
            if a.track not in long or a.p_fake is None or b.p_fake is None:
                continue
            late = of_track[a.track] - first
            of_track[a.track] += 1
            if late >= 0 and late % timeline.NETWORK_EACH:
                faces.append(abs(a.p_fake - b.p_fake))
    if not videos:
        pytest.skip("no clip shows a person long enough")
    print(f"\n{len(videos)} clips, {fps} samples a second, one face in {timeline.NETWORK_EACH} after {first}: "
          f"videos change by {np.mean(videos):.3f} on average, {max(videos):.3f} at most, verdicts {changed} times; of "
          f"the {len(faces)} faces told by others by {np.mean(faces):.3f}, 95 in 100 by {np.quantile(faces, 0.95):.3f} "
          f"at most, one by {max(faces):.3f}")  # fmt: skip
