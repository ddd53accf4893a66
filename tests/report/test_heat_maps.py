"""An explanation's folder holds what its table names, and nothing of an earlier one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from torchfakes_cli.errors import OutputError
from torchfakes_cli.records import Face, FaceScore, Status, VideoResult
from torchfakes_cli.report import check_explanation_target, write_explanation
from torchfakes_cli.report.heat_maps import Explanation, RegionShare, TellingFace

LANDMARKS = ((20.0, 20.0), (40.0, 20.0), (30.0, 30.0), (22.0, 42.0), (38.0, 42.0))


def explanation(*times_s: float) -> Explanation:
    heat = np.full((16, 16), 1 / 256, np.float32)
    faces = tuple(
        TellingFace(
            FaceScore(time_s, 3, 1, Face((0.0, 0.0, 60.0, 60.0), 0.9, LANDMARKS), 50.0, 0.5, 0.6),
            np.full((60, 60, 3), 128, np.uint8),
            LANDMARKS,
            heat,
            heat * 0,
        )
        for time_s in times_s
    )
    regions = tuple((RegionShare("eyes", 0.2, 0.7, None), RegionShare("outside", 0.8, 0.3, None)) for _ in faces)
    return Explanation(VideoResult("$clip$.mp4", Status.OK), faces, regions)


def test_pictures_of_an_earlier_explanation_go_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "clip.explain"
    check_explanation_target(folder)
    write_explanation(folder, explanation(1.0, 2.5))
    (folder / "notes.txt").write_text("mine")
    check_explanation_target(folder)
    written = write_explanation(folder, explanation(2.5))
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "person-1-at-002.500s.png", "regions.csv"]
    assert [path.name for path in written] == ["person-1-at-002.500s.png", "regions.csv"]
    with (folder / "regions.csv").open(encoding="utf-8", newline="") as file:
        eyes, outside = csv.DictReader(file)
    assert (eyes["region"], eyes["area_share"], eyes["fake_share"], eyes["real_share"]) == (
        "eyes",
        "0.2000",
        "0.7000",
        "",
    )
    assert outside["picture"] == "person-1-at-002.500s.png"


def test_a_table_can_not_name_files_to_be_removed(tmp_path: Path) -> None:
    victim = tmp_path / "victim.png"
    victim.touch()
    folder = tmp_path / "clip.explain"
    write_explanation(folder, explanation(1.0))
    table = folder / "regions.csv"
    table.write_text(table.read_text().replace("person-1-at-001.000s.png", "../victim.png"))
    write_explanation(folder, explanation(1.0))
    assert victim.exists()


def test_a_folder_that_is_not_ours_needs_force(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").touch()
    with pytest.raises(OutputError, match="--force"):
        check_explanation_target(tmp_path)
    check_explanation_target(tmp_path, force=True)
    with pytest.raises(OutputError, match="can't be written"):
        check_explanation_target(tmp_path / "missing" / "clip.explain")
