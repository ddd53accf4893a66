"""Videos by URL: from fsspec's store in memory and from files, as from a store far away; and from web pages.

The pages come from a server on this machine; a site on the web goes through the same calls of yt-dlp.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import model, session_clips  # noqa: F401 - fixtures
from torchfakes_cli.cli import app
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.errors import StoppedError, UnreadableFileError, UnsupportedMediaError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.records import Reason, Status
from torchfakes_cli.scan.batch import scan_folder
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.discovery import find_videos
from torchfakes_cli.scan.remote_files import entries, is_url, local_copy, state_of
from torchfakes_cli.scan.scanner import scan_video
from torchfakes_cli.video.options import SamplingConfig

fsspec = pytest.importorskip("fsspec")

QUICK = ScanConfig(sampling=SamplingConfig(frames=3, frames_fixed=True), jobs=1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty folder, in a test whose copies lie in ``tmp_path``."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.mkdir("/bucket")
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def put(url: str, content: bytes = b"content") -> None:
    with fsspec.open(url, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("url", ["s3://bucket/clip.mp4", "gs://bucket", "memory://a", "file:///clip.mp4"])
def test_stores_are_told_by_their_scheme(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize(
    "path",
    ["ftp://example.org/a", "zip://a.mp4::s3://b", "rtsp://camera", "C:/a.mp4", "a:b.mp4"],
)
def test_other_urls_and_paths_are_no_store(path: str) -> None:
    assert not is_url(path)


def test_folders_are_searched_as_on_a_disk(store: str, tmp_path: Path) -> None:
    names = ["b.mp4", "a/2.MOV", "a/1.mp4", "a.txt", ".hidden.mp4", ".trash/x.mp4", "a/._1.mp4", "raw/r.mp4", "p.jpg"]
    for name in names:
        put(f"{store}/{name}")
        place = tmp_path / "disk" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"content")
    for how in ({}, {"recursive": False}, {"include": ["a/*", "*.jpg"]}, {"exclude": ["raw", "2*"]}):
        here = find_videos([tmp_path / "disk"], **how)  # type: ignore[arg-type]
        there = find_videos([f"{store}/"], **how)  # type: ignore[arg-type]
        wanted = [f"{store}/{Path(path).relative_to(tmp_path / 'disk').as_posix()}" for path in here.videos]
        assert list(there.videos) == wanted
        assert there.videos
        assert not there.unreadable
        assert all(size == 7 and time for size, time in map(there.states.__getitem__, there.videos))


def test_a_file_and_what_is_missing(store: str) -> None:
    put(f"{store}/clip.mp4")
    assert find_videos([f"{store}/clip.mp4"]).videos == (f"{store}/clip.mp4",)
    assert state_of(f"{store}/clip.mp4")[0] == 7
    assert state_of(f"{store}/missing.mp4") == (None, None)
    with pytest.raises(UnreadableFileError, match="no such file"):
        entries(f"{store}/missing")


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"content")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [entry.name for entry in entries(tmp_path.as_uri())] == ["clip.mp4"]


def test_results_bear_the_url_and_no_copy_stays(store: str, clips: Path, detector: Detector, tmp_path: Path) -> None:
    put(f"{store}/a.mp4", (clips / "empty.mp4").read_bytes())
    put(f"{store}/b.mp4", b"not a video at all")
    good, bad = scan_folder(store, QUICK, detector=detector)
    assert (good.path, good.reason, good.frames_sampled) == (f"{store}/a.mp4", Reason.NO_FACE, 3)
    assert (bad.path, bad.status) == (f"{store}/b.mp4", Status.ERROR)
    with pytest.raises(UnreadableFileError, match=f"^{store}/none.mp4: there is no such file"):
        scan_video(f"{store}/none.mp4", QUICK, detector=detector)
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


def test_copies_are_bounded(store: str, tmp_path: Path) -> None:
    put(f"{store}/large.mp4", bytes((1 << 20) + 1))
    with (
        pytest.raises(UnreadableFileError, match=r"larger than 1 MiB.*--max-download-size"),
        local_copy(f"{store}/large.mp4", 1 << 20),
    ):
        pass
    with local_copy(f"{store}/large.mp4", 2 << 20) as copy:
        assert Path(copy.path).stat().st_size == (1 << 20) + 1
        assert Path(copy.path).suffix == ".mp4"
        assert copy.source is None
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


def test_a_name_from_a_store_names_no_file_here(store: str) -> None:
    put(f"{store}/..%2f..%2fetc/passwd.m p4;x")
    (url,) = (f"{store}/..%2f..%2fetc/{entry.name}" for entry in entries(f"{store}/..%2f..%2fetc"))
    with local_copy(url, 99) as copy:
        assert Path(copy.path).name == "clip"


needs_yt_dlp = pytest.mark.skipif(find_spec("yt_dlp") is None, reason="needs the extra url")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def site(session_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:  # noqa: F811
    """Address of a site whose ``page.html`` has one video; downloads lie in ``tmp_path``."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = tmp_path / "site"
    root.mkdir()
    (root / "face.mp4").write_bytes((session_clips / "face.mp4").read_bytes())
    (root / "empty.mp4").write_bytes((session_clips / "empty.mp4").read_bytes())
    video = '<video src="{}.mp4"></video>'
    for name, videos in (("page", ["face"]), ("two", ["face", "empty"]), ("none", [])):
        body = "".join(map(video.format, videos))
        (root / f"{name}.html").write_text(f"<html><title>A clip</title><body>{body}</body></html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_yt_dlp
def test_the_video_of_a_page_is_scanned_and_not_kept(site: str, model: Path, tmp_path: Path) -> None:  # noqa: F811
    arguments = ["scan", f"{site}/page.html", "--json", "--model", str(model), "--frames", "3"]
    ended = CliRunner().invoke(app, [*arguments, "--report", "page.html", "-o", "results.csv"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.stdout)
    assert (document["path"], document["verdict"]) == (f"{site}/page.html", "fake")
    assert document["sha256"] == sha256_of(tmp_path / "site" / "face.mp4")
    source = document["source"]
    assert (source["page"], source["site"]) == (f"{site}/page.html", "HTML5MediaEmbed")
    assert source["id"]
    page = (tmp_path / "page.html").read_text()
    assert "downloaded from" in page
    assert source["id"] in page
    assert document["sha256"] in page
    assert f"{site}/page.html" in (tmp_path / "results.csv").read_text()
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


@needs_yt_dlp
def test_web_pages_in_a_list_are_opened_only_on_request(site: str, model: Path) -> None:  # noqa: F811
    listing = f"{site}/page.html\n{site}/face.mp4\n"
    arguments = ["scan", "-", "--format", "tsv", "--model", str(model), "--frames", "3"]
    refused = CliRunner().invoke(app, arguments, input=listing)
    assert refused.exit_code == 2
    assert "--allow-urls" in refused.stderr
    ended = CliRunner().invoke(app, [*arguments, "--allow-urls"], input=listing, catch_exceptions=False)
    assert [line.split("\t")[:2] for line in ended.stdout.splitlines()] == [
        [f"{site}/page.html", "fake"],
        [f"{site}/face.mp4", "fake"],
    ]


@needs_yt_dlp
def test_downloads_have_limits(site: str, tmp_path: Path) -> None:
    for page, error, words in (
        ("two.html", UnsupportedMediaError, "several videos"),
        ("none.html", UnreadableFileError, "no video can be downloaded: .*Check the address"),
        ("missing.html", UnreadableFileError, "404"),
    ):
        with pytest.raises(error, match=words), local_copy(f"{site}/{page}", 1 << 20):
            pass
    with pytest.raises(UnreadableFileError, match="--max-download-size"), local_copy(f"{site}/page.html", 100):
        pass
    with pytest.raises(StoppedError), local_copy(f"{site}/page.html", 1 << 20, lambda: True):
        pass
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


def test_without_yt_dlp_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)  # as if it weren't there
    ended = CliRunner().invoke(app, ["scan", "https://example.org/clip", "--json"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "pip install 'torchfakes[url]'" in ended.stderr


def test_a_page_is_told_by_its_scheme(tmp_path: Path) -> None:
    assert is_url("HTTPS://example.org/clip")
    assert not is_url("ftp://example.org/clip.mp4")
