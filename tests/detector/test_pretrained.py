"""Face recognition weights to start from: checked before they are used. The server is a local one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.weights_server import WeightsServer
from torchfakes_cli.detector import download
from torchfakes_cli.detector.download import VGGFACE2_VARIABLE, load_vggface2
from torchfakes_cli.detector.network import build_network
from torchfakes_cli.errors import CheckpointError, DownloadError

KNOWN = download.VGGFACE2_SHA256


@pytest.fixture
def own_cache(server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VGGFACE2_VARIABLE, server.url)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(download, "VGGFACE2_SHA256", "")  # that of the real file, 107 MiB
    return tmp_path


def test_face_recognition_weights_fill_all_but_the_logit(server: WeightsServer, own_cache: Path) -> None:
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


def test_a_page_instead_of_weights_is_refused(server: WeightsServer, own_cache: Path) -> None:
    server.body = b"<html>Please log in</html>"
    with pytest.raises(CheckpointError, match="no file of weights"):
        load_vggface2(build_network())


def test_another_file_than_the_known_one_is_refused(
    server: WeightsServer, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "VGGFACE2_SHA256", KNOWN)
    with pytest.raises(DownloadError, match="281cebca8662831a"):
        load_vggface2(build_network())
    assert not (own_cache / "weights.pt").exists()


def test_without_a_network_training_can_start_from_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VGGFACE2_VARIABLE, "http://127.0.0.1:9/weights.pt")
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(DownloadError, match="--weights scratch"):
        load_vggface2(build_network())
