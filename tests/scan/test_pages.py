"""What a report says of the provenance of a scan, and which faces it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.report.pages import crowd
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.report.summary import error_rates_sentence
from torchfakes_cli.scan.config import ScanConfig, VerdictConfig
from torchfakes_cli.scan.pages import Pages, chosen_rows
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.video.options import SamplingConfig

SAMPLE = Path(__file__).parents[2] / "sample_videos" / "astronaut_fake.mp4"


def test_the_shipped_detector_tells_how_often_it_was_wrong_at_its_own_thresholds() -> None:
    few = SamplingConfig(frames=2, frames_fixed=True)
    with Scanner(ScanConfig(sampling=few)) as scanner:
        own = Pages(scanner, command="torchfakes scan a.mp4").provenance
        rates = scanner.scan(SAMPLE).error_rates
    said = r"In a cross-validated test on \d+ public clips .* called \d+ of \d+ genuine videos fake \(false alarms\).*"
    assert rates is not None
    assert re.fullmatch(said, error_rates_sentence(rates))
    assert own.calibrated_on
    assert own.command == "torchfakes scan a.mp4"
    settings = dict(own.settings)
    assert settings["sampling"].startswith("fps not set; frames 2;")
    assert "torch " in settings["by"]
    other = ScanConfig(sampling=few, verdict=VerdictConfig(fake_above=0.5, real_below=0.5))
    with Scanner(other, model=shipped_checkpoint()) as scanner:
        provenance = Pages(scanner).provenance
        assert scanner.scan(SAMPLE).error_rates is None
    assert provenance.fake_above == 0.5
    assert provenance.model_sha256 == own.model_sha256


@pytest.mark.parametrize(("people", "shown", "each"), [(1, 1, 6), (2, 2, 6), (5, 5, 4), (12, 12, 3), (40, 20, 1)])
def test_the_fewer_people_there_are_the_more_is_shown_of_each(people: int, shown: int, each: int) -> None:
    film, _ = crowd(400, people, faces_each=0)
    rows = chosen_rows(film)
    assert len({row.track for row in rows}) == shown
    assert len(rows) == shown * each
