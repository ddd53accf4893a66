from __future__ import annotations

import io
import os
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest
import typer

from torchfakes_cli.cli import app
from torchfakes_cli.cli.options import parse_numbers, parse_rate, parse_time, paths_from, refuse_urls
from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.training.config import EvaluateConfig, PrepareConfig, TrainConfig
from torchfakes_cli.video.options import SamplingConfig


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1:30", 90),
        ("0:01:30.5", 90.5),
        ("2:00:00", 7200),
        (".5", 0.5),
        ("0", 0),
        (" 5 ", 5),
        ("90:00", 5400),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "abc", "-5", "nan", "inf", "1:2:3:4", "1e3", "1:", "5s", "1:99", "1:60:00", "1:60"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no time"):
        parse_time(text)


@pytest.mark.parametrize(("text", "rate"), [("2", 2), ("0.5", Fraction(1, 2)), ("30000/1001", Fraction(30000, 1001))])
def test_rates_are_exact(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "1/0", "nan", "inf"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no rate"):
        parse_rate(text)


def test_numbers_are_a_list() -> None:
    assert parse_numbers("--levels", "1, 3,5", "1,3,5") == (1, 3, 5)
    assert parse_numbers("--levels", "2", "1,3,5") == (2,)
    for text in ("", "mild", "1;2", "1.5"):
        with pytest.raises(UsageError, match="--levels takes numbers such as 1,3,5"):
            parse_numbers("--levels", text, "1,3,5")


@pytest.mark.parametrize("url", ["https://example.org/a.mp4", "rtsp://camera/1", "HTTP://X/y"])
def test_urls_are_refused_with_advice(url: str) -> None:
    with pytest.raises(UsageError, match="Download"):
        refuse_urls(["clip.mp4", url])


def test_paths_are_no_urls(tmp_path: Path) -> None:
    refuse_urls([str(tmp_path), "C:/clips/a.mp4", "C:\\clips\\a.mp4", "a:b.mp4"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_paths_in_the_encodings_of_windows(encoding: str, end: str) -> None:
    paths = ["d\\a.mp4", "d/b.mp4", "Zo\u00eb \u4e2d.mp4"]
    listing = end.join([*paths, "", "  ", ""])  # blank lines are no paths
    assert paths_from(io.BytesIO(listing.encode(encoding))) == paths


def test_names_between_nuls_are_bytes() -> None:
    assert paths_from(io.BytesIO(b"caf\xe9.mp4\0a\nb.mp4\0.\0")) == [os.fsdecode(b"caf\xe9.mp4"), "a\nb.mp4", "."]


@pytest.mark.parametrize(
    "listing",
    [
        "d/a.mp4\n".encode("utf-16-le"),
        "d/a.mp4\n".encode("utf-16-be"),
        "/\u4e2d\u6587.mp4\r\n".encode("utf-16-le"),
        "d/a.mp4\n".encode("utf-32"),
        b"caf\xe9.mp4\n",
        b"\xff\xfea",
    ],
)
def test_lists_of_paths_in_other_encodings_are_refused(listing: bytes) -> None:
    with pytest.raises(UsageError, match=r"not UTF-8.*-print0"):
        paths_from(io.BytesIO(listing))


@pytest.mark.parametrize(
    ("command", "configs", "others"),
    [
        ("scan", [ScanConfig, SamplingConfig, FaceConfig],
         "paths recursive include exclude allow_urls threshold model ray workers table prune timeline no_timeline "
         "timelines annotate frames_dir report force format json quiet verbose fail_on_fake profile debug"),
        ("explain", [ScanConfig, SamplingConfig, FaceConfig],
         "path output faces_a_track people force threshold model debug"),
        ("prepare", [PrepareConfig, FaceConfig], "corpus debug"),
        ("train", [TrainConfig], "crops recipe debug"),
        ("evaluate", [EvaluateConfig], "inputs json debug"),
        ("demo", [DemoConfig, ScanConfig], "model debug"),
        ("serve", [ServeConfig], "model device token_file no_auth log_format debug"),
    ],
)  # fmt: skip
def test_each_option_sets_a_field_of_its_name(command: str, configs: list[type], others: str) -> None:
    """An option that is called otherwise than its field would be ignored."""
    parameters = {parameter.name for parameter in typer.main.get_command(app).commands[command].params}  # type: ignore
    assert parameters - {field.name for config in configs for field in fields(config)} == set(others.split())
