"""Videos of web pages, from a server on this machine; a site on the web goes through the same calls of yt-dlp."""

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
from torchfakes_cli.errors import StoppedError, UnreadableFileError, UnsupportedMediaError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.scan.remote_files import is_url, local_copy

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
