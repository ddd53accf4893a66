"""Fetching public weights: whole, checked, tried again, and clear when it can't be done. The server is a local one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from torchfakes_cli.detector import pretrained
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.detector.pretrained import VGGFACE2_VARIABLE, fetch, load_vggface2, record_checksum
from torchfakes_cli.errors import CheckpointError, DownloadError


class Server:
    """Serves one body under any name, after some failures, and counts requests."""

    def __init__(self) -> None:
        self.body = b"weights" * 1000
        self.failures: list[int] = []
        self.cut = False
        self.requests = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests += 1
                if owner.failures:
                    self.send_error(owner.failures.pop(0))
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(owner.body)))
                self.end_headers()
                self.wfile.write(owner.body[: len(owner.body) // 2] if owner.cut else owner.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/weights.pt"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path / "cache")
    assert path.read_bytes() == server.body
    assert fetch(server.url, tmp_path / "cache") == path
    assert server.requests == 1


def test_a_passing_failure_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 500]
    assert fetch(server.url, tmp_path, first_wait_s=0.01).read_bytes() == server.body
    assert server.requests == 3


def test_a_lasting_failure_is_not(server: Server, tmp_path: Path) -> None:
    server.failures = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch(server.url, tmp_path, first_wait_s=0.01)
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_is_never_kept(server: Server, tmp_path: Path) -> None:
    server.cut = True
    with pytest.raises(DownloadError, match="can't be fetched"):
        fetch(server.url, tmp_path, first_wait_s=0.01)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    # Port 9 of this machine refuses at once, as a missing network would.
    with pytest.raises(DownloadError, match="--from scratch") as caught:
        fetch("http://127.0.0.1:9/weights.pt", tmp_path, first_wait_s=0.01)
    assert str(tmp_path / "weights.pt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_is_refused(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path)
    record_checksum(path)
    path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(server.url, tmp_path)


@pytest.fixture
def own_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VGGFACE2_VARIABLE, server.url)
    monkeypatch.setattr(pretrained, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_face_recognition_weights_fill_all_but_the_logit(server: Server, own_cache: Path) -> None:
    torch.manual_seed(1)
    public = build_network().state_dict()
    public["logits.weight"], public["logits.bias"] = torch.zeros(8631, 512), torch.zeros(8631)
    torch.save(public, own_cache / "body")
    server.body = (own_cache / "body").read_bytes()
    torch.manual_seed(2)
    network = build_network()
    own_logit = network.logits.weight.clone()
    load_vggface2(network)
    assert torch.equal(network.conv2d_1a.conv.weight, public["conv2d_1a.conv.weight"])
    assert torch.equal(network.last_bn.running_var, public["last_bn.running_var"])
    assert torch.equal(network.logits.weight, own_logit)
    assert (own_cache / "weights.pt.sha256").is_file()


def test_a_page_instead_of_weights_is_refused(server: Server, own_cache: Path) -> None:
    server.body = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match="Delete it and try again"):
        load_vggface2(build_network())
    # Once deleted, the right file is not measured by the wrong one's checksum.
    (own_cache / "weights.pt").unlink()
    server.body = b"weights"
    assert fetch(server.url, own_cache).read_bytes() == b"weights"
