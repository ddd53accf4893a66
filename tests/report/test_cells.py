from __future__ import annotations

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.report.cells import csv_line, number_cell, rounded, text_cell


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
