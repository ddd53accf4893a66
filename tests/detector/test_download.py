"""Downloads are whole, checked, tried again, continued, and clear when they can't be had. The servers are local."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.weights_server import WeightsServer, serving
from torchfakes_cli.detector import download
from torchfakes_cli.detector.download import fetch, file_name, record_checksum, recorded_checksum
from torchfakes_cli.errors import DownloadError, UsageError
from torchfakes_cli.files import sha256_of


def test_a_file_is_fetched_once(server: WeightsServer, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path / "cache")
    assert path.read_bytes() == server.body
    assert fetch(server.url, tmp_path / "cache") == path
    assert server.requests == 1


def test_a_passing_failure_is_tried_again(server: WeightsServer, tmp_path: Path) -> None:
    server.failures = [503, 429]
    assert fetch(server.url, tmp_path, first_wait_s=0.01).read_bytes() == server.body
    assert server.requests == 3


def test_a_lasting_failure_is_not(server: WeightsServer, tmp_path: Path) -> None:
    server.failures = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch(server.url, tmp_path, first_wait_s=0.01)
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


def test_a_cut_connection_goes_on_where_it_broke_off(server: WeightsServer, tmp_path: Path) -> None:
    server.body = os.urandom(1 << 20)
    server.cut_after = [400_000, 300_000]
    heard: list[tuple[int, int | None]] = []
    path = fetch(server.url, tmp_path, first_wait_s=0.01, progress=lambda done, wanted: heard.append((done, wanted)))
    assert path.read_bytes() == server.body
    assert [asked for _, asked in server.asked] == ["", "bytes=400000-", "bytes=700000-"]
    assert heard[-1] == (1 << 20, 1 << 20)
    assert heard == sorted(heard)
    assert list(tmp_path.iterdir()) == [path]


def test_tries_that_bring_something_are_not_counted(server: WeightsServer, tmp_path: Path) -> None:
    server.body = os.urandom(1 << 20)
    server.cut_after = [100_000] * 8
    assert fetch(server.url, tmp_path, first_wait_s=0.001).read_bytes() == server.body


def test_the_next_run_goes_on_where_the_last_one_gave_up(server: WeightsServer, tmp_path: Path) -> None:
    server.body = os.urandom(50_000)
    server.cut_after = [20_000]
    with pytest.raises(DownloadError, match="20000 bytes are kept"):
        fetch(server.url, tmp_path, attempts=1)
    assert not (tmp_path / "weights.pt").exists()
    assert fetch(server.url, tmp_path).read_bytes() == server.body
    assert server.asked[-1][1] == "bytes=20000-"


def test_a_killed_download_goes_on_and_a_running_one_is_left_alone(server: WeightsServer, tmp_path: Path) -> None:
    server.body = os.urandom(50_000)
    server.cut_after = [20_000]
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path, attempts=1)
    running = tmp_path / "weights.pt.12345678.part"
    (tmp_path / "weights.pt.part").rename(running)
    assert fetch(server.url, tmp_path).read_bytes() == server.body
    assert running.is_dir()
    assert server.asked[-1][1] == ""
    (tmp_path / "weights.pt").unlink()
    long_ago = time.time() - 3600
    os.utime(running / "data", (long_ago, long_ago))
    assert fetch(server.url, tmp_path).read_bytes() == server.body
    assert server.asked[-1][1] == "bytes=20000-"


@pytest.mark.parametrize("tag", ['"two"', ""])
def test_two_versions_of_a_file_are_never_mixed(server: WeightsServer, tmp_path: Path, tag: str) -> None:
    server.body, server.tag, server.cut_after = b"a" * 50_000, '"one"' if tag else "", [20_000]
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path, attempts=1)
    server.body, server.tag = b"b" * 60_000, tag
    assert fetch(server.url, tmp_path, first_wait_s=0.01).read_bytes() == server.body


def test_a_server_without_ranges_sends_all_again(server: WeightsServer, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [3000]
    assert fetch(server.url, tmp_path, first_wait_s=0.01).read_bytes() == server.body


def test_half_a_file_never_has_its_name(server: WeightsServer, tmp_path: Path) -> None:
    server.ranges, server.cut = False, True
    with pytest.raises(DownloadError, match="can't be fetched"):
        fetch(server.url, tmp_path, first_wait_s=0.01)
    assert server.requests == 3
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt.part"]


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    # Port 9 of this machine refuses at once, as a missing network would.
    with pytest.raises(DownloadError, match=r"HTTPS_PROXY.*or do without") as caught:
        fetch("http://127.0.0.1:9/weights.pt", tmp_path, first_wait_s=0.01, otherwise="do without")
    assert str(tmp_path / "weights.pt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_is_refused_and_deleted(server: WeightsServer, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path)
    record_checksum(path)
    path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"SHA-256.*deleted"):
        fetch(server.url, tmp_path)
    assert not path.exists()
    assert fetch(server.url, tmp_path).read_bytes() == server.body


def test_the_server_must_keep_the_recorded_file(server: WeightsServer, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path)
    record_checksum(path)
    first = recorded_checksum(path)
    path.unlink()
    server.body = b"another file"
    with pytest.raises(DownloadError, match=r"recorded at its first use.*weights\.pt\.sha256"):
        fetch(server.url, tmp_path)
    assert not path.exists()
    assert recorded_checksum(path) == first


def test_a_checksum_that_was_asked_for_decides(server: WeightsServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="was asked for"):
        fetch(server.url, tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
    path = fetch(server.url, tmp_path)
    assert fetch(server.url, tmp_path, sha256=sha256_of(path).upper()) == path


def test_a_file_without_end_is_given_up(server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 5000)
    with pytest.raises(DownloadError, match="too much for a detector"):
        fetch(server.url, tmp_path, first_wait_s=0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_is_asked_for_what_lies_behind_it(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch("http://127.0.0.9/weights.pt", tmp_path).read_bytes() == server.body
    assert server.asked == [("http://127.0.0.9/weights.pt", "")]
    with serving() as direct:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        fetch(direct.url, tmp_path / "direct")
        assert direct.requests == 1


def test_a_proxy_is_asked_to_connect_for_https(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.address)
    with pytest.raises(DownloadError, match="502"):
        fetch("https://models.invalid/weights.pt", tmp_path, attempts=1)
    assert server.connects == ["models.invalid:443"]


def test_a_redirect_to_plain_http_is_not_followed(server: WeightsServer, tmp_path: Path) -> None:
    server.moved_to = "http://models.invalid/weights.pt"
    with pytest.raises(UsageError, match="plain HTTP"):
        fetch(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/weights.pt",
        "weights.pt",
        "http://example.org/weights.pt",
        "http://127.0.0.1.example.org/weights.pt",
        "http://localhost@example.org/weights.pt",
        "http://[broken/weights.pt",
    ],
)
def test_only_https_and_this_machine_are_fetched_from(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="https://"):
        fetch(url, tmp_path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b.pth?download=true", "b.pth"),
        ("https://h/a/%2e%2e%2fb c.pth", "b_c.pth"),
        ("https://h/..", "download"),
        ("https://h", "download"),
    ],
)
def test_a_url_names_a_file_that_stays_in_its_folder(url: str, name: str) -> None:
    assert file_name(url) == name
