"""Downloads are whole, checked, tried again, and clear when they can't be had. The servers are local."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.weights_server import WeightsServer, serving
from torchfakes_cli.detector import download
from torchfakes_cli.detector.download import Progress, RemoteFile
from torchfakes_cli.detector.registry import record_checksum, recorded_checksum
from torchfakes_cli.errors import DownloadError, UsageError
from torchfakes_cli.files import sha256_of

HUB_FILE = "/some/net/resolve/main/weights.pt"


def fetch(url: str, folder: Path, *, sha256: str = "", otherwise: str = "", progress: Progress | None = None) -> Path:
    return download.fetch(RemoteFile(url), folder, sha256=sha256, otherwise=otherwise, progress=progress)


@pytest.fixture
def hub_file(server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> RemoteFile:
    """A file on a local Hugging Face."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    return download.find_remote("hf:some/net/weights.pt")


def test_a_file_is_fetched_once(server: WeightsServer, tmp_path: Path) -> None:
    server.body = os.urandom(1 << 20)
    heard: list[tuple[int, int | None]] = []
    path = fetch(server.url, tmp_path / "cache", progress=lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == server.body
    assert fetch(server.url, tmp_path / "cache") == path
    assert server.requests == 1
    assert heard[-1] == (1 << 20, 1 << 20)
    assert heard == sorted(heard)


def test_a_file_of_the_hub_is_fetched_once(server: WeightsServer, tmp_path: Path, hub_file: RemoteFile) -> None:
    server.body = os.urandom(1 << 20)
    heard: list[tuple[int, int | None]] = []
    path = download.fetch(hub_file, tmp_path, progress=lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == server.body
    assert download.fetch(hub_file, tmp_path) == path
    assert [asked for asked, _ in server.asked] == [HUB_FILE]
    assert heard[-1] == (1 << 20, 1 << 20)
    assert heard == sorted(heard)


def test_a_download_from_the_hub_goes_on_after_a_lost_connection(
    server: WeightsServer, tmp_path: Path, hub_file: RemoteFile
) -> None:
    part = 10 << 20  # what huggingface_hub writes at once
    server.body = os.urandom(2 * part)
    server.cut_after = [part + 5000]
    assert download.fetch(hub_file, tmp_path).read_bytes() == server.body
    assert server.asked == [(HUB_FILE, ""), (HUB_FILE, f"bytes={part}-")]


def test_half_a_file_of_the_hub_never_has_its_name(server: WeightsServer, tmp_path: Path, hub_file: RemoteFile) -> None:
    def interrupt(received: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(hub_file, tmp_path, progress=interrupt)
    assert not (tmp_path / "weights.pt").exists()
    assert download.fetch(hub_file, tmp_path).read_bytes() == server.body


@pytest.mark.slow
def test_a_passing_failure_is_tried_again(server: WeightsServer, tmp_path: Path) -> None:
    server.failures = [503, 429]
    assert fetch(server.url, tmp_path).read_bytes() == server.body
    assert server.requests == 3


def test_a_lasting_failure_is_not(server: WeightsServer, tmp_path: Path, hub_file: RemoteFile) -> None:
    server.failures = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch(server.url, tmp_path)
    assert server.requests == 1
    server.failures = [404]
    with pytest.raises(DownloadError, match="404"):
        download.fetch(hub_file, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cut_download_is_begun_again_and_never_has_the_files_name(server: WeightsServer, tmp_path: Path) -> None:
    server.cut_after = [3000]
    assert fetch(server.url, tmp_path / "once").read_bytes() == server.body
    server.cut = True
    with pytest.raises(DownloadError, match="can't be fetched"):
        fetch(server.url, tmp_path / "always")
    assert list((tmp_path / "always").iterdir()) == []


@pytest.mark.parametrize("hub", [False, True])
def test_without_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: bool) -> None:
    # Port 9 of this machine refuses at once, as a missing network would.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    file = download.find_remote("hf:some/net/weights.pt" if hub else "http://127.0.0.1:9/weights.pt")
    with pytest.raises(DownloadError, match=r"refused.*HTTPS_PROXY.*or do without") as caught:
        download.fetch(file, tmp_path, otherwise="do without")
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


def test_a_file_without_end_is_given_up(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_file: RemoteFile
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 5000)
    for file in (RemoteFile(server.url), hub_file):
        with pytest.raises(DownloadError, match="too much for a detector"):
            download.fetch(file, tmp_path)
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


@pytest.mark.parametrize("source", ["https://models.invalid/weights.pt", "hf:some/net/weights.pt"])
def test_a_proxy_is_asked_to_connect_for_https(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("https_proxy", server.address)
    monkeypatch.setenv("HF_ENDPOINT", "https://models.invalid")
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(DownloadError, match="502"):
        download.fetch(download.find_remote(source), tmp_path)
    assert set(server.connects) == {"models.invalid:443"}


def test_a_redirect_to_plain_http_is_not_followed(server: WeightsServer, tmp_path: Path, hub_file: RemoteFile) -> None:
    server.moved_to = "http://models.invalid/weights.pt"
    for file in (RemoteFile(server.url), hub_file):
        with pytest.raises(UsageError, match="plain HTTP"):
            download.fetch(file, tmp_path)
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


def test_a_mirror_of_the_hub_is_read_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    with pytest.raises(UsageError, match="plain HTTP"):
        download.find_remote("hf:some/net/weights.pt")


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
    assert RemoteFile(url).name == name
