"""What a report says of the provenance of a scan, and which faces it shows."""

from __future__ import annotations

import re

import pytest

from tests.report.pages import crowd
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.scan.config import ScanConfig, VerdictConfig
from torchfakes_cli.scan.pages import Pages, chosen_rows
from torchfakes_cli.scan.scanner import Scanner


def test_the_shipped_detector_tells_how_often_it_was_wrong_at_its_own_thresholds() -> None:
    with Scanner() as scanner:
        own = Pages(scanner, command="torchfakes scan a.mp4").provenance
    where = r"(On \d+ public clips of \d+ people or pieces of footage, this|In its test this)"
    said = where + r" detector called \d+ of \d+ genuine videos fake; of \d+ fakes it called \d+ fake and \d+ real\."
    assert re.fullmatch(said, own.measured)
    assert own.calibrated_on
    assert own.command == "torchfakes scan a.mp4"
    settings = dict(own.settings)
    assert settings["sampling"].startswith("fps not set; frames 32;")
    assert "torch " in settings["by"]
    other = ScanConfig(verdict=VerdictConfig(fake_above=0.5, real_below=0.5))
    with Scanner(other, model=shipped_checkpoint()) as scanner:
        provenance = Pages(scanner, shipped_checkpoint()).provenance
    assert provenance.measured == ""
    assert provenance.fake_above == 0.5
    assert provenance.model_sha256 == own.model_sha256


@pytest.mark.parametrize(("people", "shown", "each"), [(1, 1, 6), (2, 2, 6), (5, 5, 4), (12, 12, 3), (40, 12, 3)])
def test_the_fewer_people_there_are_the_more_is_shown_of_each(people: int, shown: int, each: int) -> None:
    film, _ = crowd(400, people, faces_each=0)
    rows = chosen_rows(film)
    assert len({row.track for row in rows}) == shown
    assert len(rows) == shown * each
