from __future__ import annotations

from pathlib import Path

import pytest

from torchfakes_cli.config import SamplingConfig, ScanConfig
from torchfakes_cli.detector import Detector
from torchfakes_cli.records import Status
from torchfakes_cli.scan import Scanner, scan_video
from torchfakes_cli.scan.spread.arrivals import Arrivals

QUICK = ScanConfig(sampling=SamplingConfig(frames=3, frames_fixed=True))


@pytest.mark.slow
def test_videos_are_taken_as_they_come(clips: Path, detector: Detector, tmp_path: Path) -> None:
    both, empty, missing = str(clips / "both.mp4"), str(clips / "empty.mp4"), str(tmp_path / "missing.mp4")
    with Scanner(QUICK, detector=detector) as scanner:
        arrivals = Arrivals(scanner)
        first = [arrivals.submit(path) for path in (both, missing, empty, both)]
        assert [future.result(60).path for future in first] == [both, missing, empty, both]
        assert [future.result().status for future in first] == [Status.OK, Status.ERROR, Status.OK, Status.OK]
        late = arrivals.submit(both).result(60)
    alone = scan_video(both, QUICK, detector=detector)
    assert (late.p_fake, late.verdict, late.frames_sampled) == (alone.p_fake, alone.verdict, alone.frames_sampled)
