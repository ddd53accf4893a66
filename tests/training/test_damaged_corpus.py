"""FaceForensics++ with missing, truncated, empty, copied, faceless and stray files."""

from __future__ import annotations

from pathlib import Path

from tests.training.layouts import write_damaged_faceforensics
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.crops.manifest import read_manifest
from torchfakes_cli.training.crops.prepare import prepare_corpus


def test_damaged_corpus(tmp_path: Path) -> None:
    write_damaged_faceforensics(tmp_path / "corpus")
    config = PrepareConfig(out=str(tmp_path / "crops"), frames_per_video=3, jobs=1, size=96)
    summary = prepare_corpus(tmp_path / "corpus", config)
    reasons = {Path(skipped.name).name: skipped.reason for skipped in summary.skipped}
    assert reasons.pop("000 (1).mp4") == reasons.pop("Thumbs.db") == "its folder or name is none of FaceForensics++"
    assert reasons.pop("004") == "no face that lasts"
    assert "empty" in reasons.pop("003_004")
    assert reasons.pop("001_002")  # truncated before the index at its end
    assert not reasons
    report = summary.report.read_text(encoding="utf-8")
    assert all(skipped.name in report for skipped in summary.skipped)
    assert any("Face2Face c23 lacks 1 of the 6 pairs" in note and "002_003" in note for note in summary.notes)
    assert any("youtube c23 6 of 1000" in note for note in summary.notes)
    table = read_manifest(summary.out)
    originals = ["000", "001", "002", "003", "005"]
    fakes = ["000_001", "001_002", "002_003", "003_004", "004_005", "005_000"]
    assert {Path(video).name for video in table["video"]} == {*originals, *fakes}
    # The ring of fakes makes one group of everyone.
    assert table["group"].nunique() == table["split"].nunique() == 1
    by_video = table.groupby("video")["boxes_from"].first()
    assert by_video["manipulated_sequences/Deepfakes/c23/videos/000_001"] == "original"
    assert by_video["manipulated_sequences/Deepfakes/c23/videos/004_005"] == "own"
