"""Detectors are fetched by name, URL and repository, and from then on are what they were. The server is a local one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.weights_server import WeightsServer
from torchfakes_cli.detector.checkpoint import load_header
from torchfakes_cli.detector.download import fetch_detector, find_remote
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.registry import verify_detector
from torchfakes_cli.errors import CheckpointError, DownloadError, OutputError, UsageError

ORIGIN = "/spaces/aaronespasa/deepfake-detection/resolve/main/resnetinceptionv1_epoch_32.pth"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file in the origin's format."""
    torch.manual_seed(0)
    state = {name: value.half() for name, value in portable_state(build_network()).items()}
    # As if its pictures had been gray, with values from 0 to 1.
    filters = state["conv2d_1a.conv.weight"].float()
    state["conv2d_1a.bn.running_mean"] = (filters.sum((1, 2, 3)) * 0.45).half()
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save({"epoch": 32, "model_state_dict": state}, path)
    return path.read_bytes()


@pytest.fixture
def hub(server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> WeightsServer:
    """Hugging Face, as far as it is needed."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    return server


def listing(*names: str) -> bytes:
    """What Hugging Face tells of the files in a repository."""
    return json.dumps([{"type": "file", "path": name, "size": 1, "oid": "0"} for name in names]).encode()


@pytest.mark.slow
def test_the_origin_is_a_name(hub: WeightsServer, weights: bytes, own_models: Path) -> None:
    hub.files[ORIGIN] = weights
    made = fetch_detector("origin")
    digest = hashlib.sha256(weights).hexdigest()
    assert made.path == own_models / "origin.safetensors"
    assert f"no checksum of it was known: its SHA-256 {digest} is recorded" in made.notes[0]
    header = load_header(made.path)
    assert (header.input_size, header.crop_size, header.crop_shape, header.margin) == (256, 160, "box", 1.0)
    assert (header.mean, header.scale, header.licence) == (0.0, 255.0, "Apache-2.0")
    assert header.training["source"]["sha256"] == digest
    assert verify_detector("origin").problem == ""
    # Once it is there, nobody is asked.
    assert "already" in fetch_detector("origin").notes[0]
    assert hub.requests == 1
    # What was recorded is held to, even where the detector was deleted and its makers' file has changed.
    made.path.unlink()
    (fetched,) = (own_models.parent / "cache").rglob("*.pth")
    fetched.unlink()
    hub.files[ORIGIN] = weights + b"\0"
    with pytest.raises(DownloadError, match="recorded at its first use"):
        fetch_detector("origin")
    assert not made.path.exists()


def test_a_page_instead_of_weights_is_not_kept(hub: WeightsServer, weights: bytes, own_models: Path) -> None:
    hub.body = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match="no file of weights"):
        fetch_detector(hub.url)
    hub.body = weights
    assert fetch_detector(hub.url, sha256=hashlib.sha256(weights).hexdigest()).name == "weights"
    hub.files["/other/weights.pt"] = b"other"
    with pytest.raises(OutputError, match="--name"):
        fetch_detector(f"{hub.address}/other/weights.pt")
    assert hub.requests == 2


@pytest.mark.usefixtures("own_models")
def test_a_wrong_checksum_leaves_nothing(hub: WeightsServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"was asked for.*deleted"):
        fetch_detector(hub.url, sha256="0" * 64)
    assert list(tmp_path.rglob("*.pt")) == []
    with pytest.raises(UsageError, match="64 hexadecimal"):
        fetch_detector(hub.url, sha256="abc")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("hf:some/net/a/b c.pth", "/some/net/resolve/main/a/b%20c.pth"),
        ("hf:some/net@v1.2/w.pth", "/some/net/resolve/v1.2/w.pth"),
        ("hf:spaces/some/page/w.pth", "/spaces/some/page/resolve/main/w.pth"),
        ("hf:some/net", "/some/net/resolve/main/model.safetensors"),
        ("hf:some/net@v1", "/some/net/resolve/v1/old.pth"),
    ],
)
def test_a_repository_stands_for_an_address(hub: WeightsServer, source: str, path: str) -> None:
    hub.files["/api/models/some/net/tree/main"] = listing("README.md", "w.pth", "v.pth", "model.safetensors")
    hub.files["/api/models/some/net/tree/v1"] = listing("old.pth")
    assert find_remote(source).url == hub.address + path


def test_a_repository_is_found_by_a_fresh_process() -> None:
    """huggingface_hub loads its parts when they are used, which an earlier test may have done."""
    code = "from torchfakes_cli.detector.download import find_remote; print(find_remote('hf:some/net/w.pth').url)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("/some/net/resolve/main/w.pth\n")


def test_a_repository_that_does_not_tell_is_asked_about(hub: WeightsServer) -> None:
    hub.files["/api/models/some/net/tree/main"] = listing("a.pth", "b.pth")
    with pytest.raises(DownloadError, match=r"2 files of weights. Name one of a\.pth, b\.pth"):
        find_remote("hf:some/net")
    hub.files["/api/models/some/net/tree/main"] = listing("README.md")
    with pytest.raises(DownloadError, match="no file of weights"):
        find_remote("hf:some/net")
    hub.failures = [401]
    with pytest.raises(DownloadError, match="401"):
        find_remote("hf:some/net")


@pytest.mark.parametrize("source", ["nobodys", "hf:", "hf:one", "ftp://h/w.pth", "hf:../../x/y", "hf:a/b/../../x"])
def test_what_is_no_source_is_wrong_usage(source: str) -> None:
    with pytest.raises(UsageError, match="origin"):
        find_remote(source)
