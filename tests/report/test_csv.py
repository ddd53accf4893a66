"""Cells that no spreadsheet runs, and the timeline of one clip."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.results import TIMELINE
from torchfakes_cli.errors import OutputError
from torchfakes_cli.report import TIMELINE_COLUMNS, check_timeline_targets, write_timeline
from torchfakes_cli.report.columns import rounded
from torchfakes_cli.report.csv import csv_line, number_cell, text_cell


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'="])
def test_a_cell_never_starts_a_formula(start: str) -> None:
    assert text_cell(f"{start}SUM(A1:A9).mp4") == f"'{start}SUM(A1:A9).mp4"


@pytest.mark.parametrize("name", ["clip.mp4", "a=b.mp4", "it's.mp4", "'quoted'.mp4", "日本.mp4", ""])
def test_harmless_text_stays_as_it_is(name: str) -> None:
    assert text_cell(name) == name


def test_two_names_never_share_a_cell() -> None:
    assert len({text_cell(name) for name in ("=x", "'=x", "''=x", "x")}) == 4


def test_undecodable_bytes_are_escaped() -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert text_cell(name) == "caf\\xe9.mp4"


@given(st.text(st.characters(exclude_characters="\x00")))
def test_every_name_can_be_written_and_read_back(name: str) -> None:
    line = csv_line([text_cell(name), "1"])
    line.encode("utf-8")
    (row,) = csv.reader(io.StringIO(line, newline=""))
    assert row == [text_cell(name), "1"]
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(
    ("value", "digits", "cell"),
    [(1.23456, 3, "1.235"), (-0.00001, 4, "0.0000"), (-2.5, 1, "-2.5"), (7, 0, "7"), (None, 3, ""), (math.nan, 3, "")],
)
def test_numbers_have_their_digits_and_missing_ones_are_empty(value: float | None, digits: int, cell: str) -> None:
    assert number_cell(value, digits) == cell


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_number_is_missing(value: float | None) -> None:
    assert rounded(value, 3) is None


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
    with pytest.raises(OutputError, match="--timeline"):
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
