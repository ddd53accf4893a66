from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tests.report.results import TIMELINE
from torchfakes_cli.errors import OutputError
from torchfakes_cli.report import TIMELINE_COLUMNS, check_timeline_targets, write_timeline


def test_one_row_a_face_and_one_for_a_frame_without(tmp_path: Path) -> None:
    path = tmp_path / "clip.timeline.csv"
    write_timeline(path, TIMELINE)
    with path.open(encoding="utf-8", newline="") as file:
        header, scored, blurry, faceless = csv.reader(file)
    assert header == [
        "time_s",
        "frame",
        "track",
        "x1",
        "y1",
        "x2",
        "y2",
        "confidence",
        "sharpness",
        "logit",
        "p_fake",
        "note",
    ]
    assert scored == ["0.000", "0", "1", "-3.0", "10.0", "61.2", "80.0", "0.9999", "120.50", "-1.2500", "0.2227", ""]
    assert blurry[8:] == ["3.00", "", "", "blurry"]
    assert faceless == ["1.000", *[""] * 10, "no_face"]


def test_an_earlier_timeline_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "clip.timeline.csv"
    write_timeline(path, TIMELINE)
    check_timeline_targets([path])
    write_timeline(path, TIMELINE[:1])
    assert len(path.read_text().splitlines()) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_file_of_someone_else_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "clip.timeline.csv"
    path.write_text("my,own,notes\n")
    with pytest.raises(OutputError, match="--force"):
        check_timeline_targets([path])
    check_timeline_targets([path], force=True)
    assert path.read_text() == "my,own,notes\n"


def test_a_missing_folder_is_told_before_the_scan(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="-o"):
        check_timeline_targets([tmp_path / "missing" / "clip.timeline.csv"])


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        check_timeline_targets([tmp_path], force=True)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "clip.timeline.csv"
    write_timeline(path, TIMELINE)
    before = path.read_bytes()

    def interrupted() -> object:
        yield TIMELINE[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_timeline(path, interrupted())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device file")
def test_a_device_is_written_and_not_replaced() -> None:
    check_timeline_targets([os.devnull])
    write_timeline(os.devnull, TIMELINE)
    assert not Path(os.devnull).is_file()


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    target = tmp_path / "real.csv"
    target.write_text(",".join(TIMELINE_COLUMNS) + "\n")
    link = tmp_path / "link.csv"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("this system lets us make no links")
    write_timeline(link, TIMELINE)
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 4
