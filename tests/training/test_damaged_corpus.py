"""FaceForensics++ with missing, truncated, empty, copied, faceless and stray files: the rest is done, all is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.layouts import write_damaged_faceforensics
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.crops.manifest import read_manifest
from torchfakes_cli.training.crops.prepare import prepare_corpus
from torchfakes_cli.training.crops.report import PrepareSummary


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> PrepareSummary:
    folder = tmp_path_factory.mktemp("damaged")
    write_damaged_faceforensics(folder / "corpus")
    config = PrepareConfig(out=str(folder / "crops"), frames_per_video=3, jobs=1, size=96)
    return prepare_corpus(folder / "corpus", config)


def test_every_useless_file_is_listed_with_its_reason(summary: PrepareSummary) -> None:
    reasons = {Path(skipped.name).name: skipped.reason for skipped in summary.skipped}
    assert reasons.pop("000 (1).mp4") == "its folder or name is none of FaceForensics++"
    assert reasons.pop("Thumbs.db") == "its folder or name is none of FaceForensics++"
    assert reasons.pop("004") == "no face that lasts"
    assert "empty" in reasons.pop("003_004")
    assert reasons.pop("001_002")  # truncated before the index at its end
    assert not reasons
    report = summary.report.read_text(encoding="utf-8")
    assert all(skipped.name in report for skipped in summary.skipped)


def test_what_is_missing_is_told(summary: PrepareSummary) -> None:
    assert any("Face2Face c23 lacks 1 of the 6 pairs" in note and "002_003" in note for note in summary.notes)
    assert any("youtube c23 6 of 1000" in note for note in summary.notes)


def test_the_rest_is_done(summary: PrepareSummary) -> None:
    table = read_manifest(summary.out)
    stems = {Path(video).name for video in table["video"]}
    assert stems == {
        "000",
        "001",
        "002",
        "003",
        "005",
        "000_001",
        "001_002",
        "002_003",
        "003_004",
        "004_005",
        "005_000",
    }
    # The ring of fakes makes one group of everyone.
    assert table["group"].nunique() == table["split"].nunique() == 1
    by_video = table.groupby("video")["boxes_from"].first()
    assert by_video["manipulated_sequences/Deepfakes/c23/videos/000_001"] == "original"
    assert by_video["manipulated_sequences/Deepfakes/c23/videos/004_005"] == "own"
