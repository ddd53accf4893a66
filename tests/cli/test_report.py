"""``scan --report``: a page for one video, an index and a page each for several."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner, Result

from torchfakes_cli import SamplingConfig, ScanConfig, scan_video, write_report
from torchfakes_cli.cli import app
from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.files import sha256_of


def scan(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["scan", *map(str, arguments)], catch_exceptions=False)


def words(page: Path) -> str:
    class Text(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data + " "

    reader = Text()
    reader.feed(page.read_text(encoding="utf-8"))
    return " ".join(reader.text.split())


def links(page: Path) -> list[str]:
    class Links(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a":
                self.found += [value or "" for name, value in attrs if name == "href"]

    reader = Links()
    reader.found = []
    reader.feed(page.read_text(encoding="utf-8"))
    return [unquote(link) for link in reader.found if not link.startswith("#")]


def test_one_video_gives_one_page(clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "new" / "report.html"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/torchfakes", "scan", "a clip.mp4", "--fps", "2"])
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 4, "--report", page, "--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["verdict"] == "fake"
    assert f"report: {page}" in ended.stderr
    told = words(page)
    for expected in (
        "Person 1 looks synthetic",
        "the verdict rests on this person",
        "never calibrated",
        "torchfakes scan 'a clip.mp4' --fps 2",
        sha256_of(model),
        sha256_of(clips / "face.mp4"),
        "frames 4; frames_fixed yes",
        "x264 - core",
    ):
        assert expected in told, expected
    assert (
        page.read_text().count('src="data:image/webp;base64,') == 13
    )  # each face, two heat maps of it, and one whole frame
    assert not list(clips.glob("*.csv"))  # --json asks for none


@pytest.mark.slow
def test_a_page_goes_into_a_folder_that_is_there(clips: Path, model: Path, tmp_path: Path) -> None:
    ended = scan(clips / "empty.mp4", "--model", model, "--frames", 2, "--report", tmp_path)
    assert ended.exit_code == 0
    assert "Nobody was seen." in words(tmp_path / "empty.report.html")


@pytest.mark.slow
def test_only_earlier_pages_are_replaced_unasked(clips: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<!doctype html>\n<p>mine</p>\n")
    command = (clips / "empty.mp4", "--model", model, "--frames", 2, "--report", page)
    refused = scan(*command)
    assert refused.exit_code == 1
    assert "exists and is not a report of torchfakes" in refused.stderr
    assert "mine" in page.read_text()
    assert scan(*command, "--force").exit_code == 0
    assert "Nobody was seen." in words(page)
    assert scan(*command).exit_code == 0


def test_a_page_never_takes_the_place_of_the_video_or_its_timeline(clips: Path, model: Path, tmp_path: Path) -> None:
    video, both = clips / "empty.mp4", tmp_path / "both"
    content = video.read_bytes()
    assert scan(video, "--model", model, "--report", video, "--force").exit_code == 2
    assert scan(video, "--model", model, "--timeline", both, "--report", both).exit_code == 2
    assert video.read_bytes() == content


def test_a_folder_gives_an_index_and_a_page_each(clips: Path, model: Path, tmp_path: Path) -> None:
    (clips / "day & 1").mkdir()
    (clips / "face.mp4").rename(clips / "day & 1" / "<b>#1%.mp4")
    reports = tmp_path / "reports"
    ended = scan(clips, "--model", model, "--frames", 2, "--report", reports, "--quiet")
    assert ended.exit_code == 3
    index = reports / "index.html"
    assert links(index) == ["./day & 1/<b>#1%.report.html", "./empty.report.html"]
    assert all((reports / link).is_file() for link in links(index))
    told = words(index)
    assert "3 videos: 1 inconclusive, 1 error" not in told
    assert "<b>#1%.mp4" in told
    assert "broken.mp4" in told
    assert "not a video" in told or "text" in told
    assert scan(clips, "--model", model, "--report", tmp_path / "one.html").exit_code == 2


@pytest.mark.slow
def test_a_row_is_kept_while_its_page_is_there(clips: Path, model: Path, tmp_path: Path) -> None:
    reports, results = tmp_path / "reports", tmp_path / "results.csv"
    command = (clips, "-o", results, "--model", model, "--frames", 2, "--report", reports)
    assert scan(*command).exit_code == 3
    page, index = reports / "face.report.html", reports / "index.html"
    before, listed = page.stat().st_mtime_ns, links(index)
    again = scan(*command)
    assert "2 rows of an earlier run kept" in again.stderr
    assert page.stat().st_mtime_ns == before
    assert links(index) == listed == ["./empty.report.html", "./face.report.html"]
    page.unlink()
    mended = scan(*command)
    assert "1 row of an earlier run kept" in mended.stderr
    assert page.is_file()
    assert links(index) == listed


def test_python_writes_the_same_page(clips: Path, model: Path, tmp_path: Path) -> None:
    config = ScanConfig(sampling=SamplingConfig(frames=4, frames_fixed=True))
    detector = load_detector(model)
    result = scan_video(clips / "face.mp4", config, detector=detector)
    write_report(tmp_path / "page.html", result, config, detector=detector)
    told = words(tmp_path / "page.html")
    assert "Person 1 looks synthetic" in told
    assert "SHA-256 of the model not known" in told
    assert "speaks for" not in told
    (clips / "face.mp4").unlink()
    write_report(tmp_path / "page.html", result, config, model=model, detector=detector)
    told = words(tmp_path / "page.html")
    assert "The faces can't be shown: no such file." in told
    assert "The file couldn't be opened again after the scan." in told
    assert sha256_of(model) in told
