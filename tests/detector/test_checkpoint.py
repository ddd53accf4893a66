"""Checkpoints survive a round trip and a crash, and nothing in a hostile one runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.detector.network import build_network, load_weights, portable_state
from torchfakes_cli.errors import CheckpointError, ModelError, ModelNotFoundError, OutputError


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return portable_state(build_network())


def metadata(**changes: Any) -> dict[str, str]:
    return {"torchfakes": json.dumps({"format": 1, "name": "x", **changes})}


def test_weights_and_header_come_back(tmp_path: Path, state: dict[str, Tensor]) -> None:
    header = Header(name="mine", slope=2.5, fake_above=0.9, real_below=0.2, metrics={"auc": 0.7})
    save_checkpoint(tmp_path / "new" / "c.safetensors", state, header)
    loaded, found = load_checkpoint(tmp_path / "new" / "c.safetensors")
    assert found == header
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_earlier_versions_refuse_what_they_would_score_wrong(tmp_path: Path) -> None:
    numbers = []
    for weight in (0.0, 0.8):
        save_checkpoint(tmp_path / "c.safetensors", {"w": torch.zeros(1)}, Header(name="x", coarse_weight=weight))
        with safe_open(tmp_path / "c.safetensors", "pt") as file:
            numbers.append(json.loads(file.metadata()["torchfakes"])["format"])
    assert numbers == [1, 2]


def test_the_network_that_comes_back_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build_network().eval()
    save_checkpoint(tmp_path / "c.safetensors", portable_state(network), Header(name="x"))
    copy = build_network().eval()
    load_weights(copy, load_checkpoint(tmp_path / "c.safetensors")[0])
    picture = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(network(picture), copy(picture), atol=1e-5)


def test_headers_of_every_length_are_told_from_pickles(tmp_path: Path) -> None:
    lengths = set()
    for padding in range(0, 260, 4):
        path = tmp_path / "c.safetensors"
        save_checkpoint(path, {"w": torch.zeros(1)}, Header(name="x" * (padding + 1)))
        lengths.add(path.read_bytes()[0])
        assert load_checkpoint(path)[1].name == "x" * (padding + 1)
    assert 0x80 in lengths


def test_a_failed_write_leaves_the_previous_checkpoint(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state, Header(name="first"))

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match=r"c\.safetensors.*No space left"):
        save_checkpoint(path, state, Header(name="second"))
    assert load_checkpoint(path)[1].name == "first"
    assert list(tmp_path.iterdir()) == [path]


class Payload:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "torch_legacy", "pickle"])
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, writer: str) -> None:
    evil, trace = tmp_path / "evil.safetensors", tmp_path / "trace"
    if writer == "pickle":
        evil.write_bytes(pickle.dumps(Payload(trace)))
    else:
        torch.save({"model": Payload(trace)}, evil, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(CheckpointError, match="could run code") as caught:
        load_detector(evil, "cpu")
    assert "weights_only" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (b"hello", "cut short"),
        (b"RIFF" + bytes(100), "cut short"),
        (struct.pack("<Q", 1 << 40) + b"{}", "cut short"),
        (struct.pack("<Q", 60) + b"{" * 60, "damaged"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(ModelNotFoundError, match="not a file"):
        load_checkpoint(tmp_path)


def test_half_a_checkpoint_is_damaged(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state, Header(name="x"), torch.float16)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_broken_weights_are_never_written(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state, Header(name="good"))
    too_large = {**state, "last_bn.running_var": torch.full_like(state["last_bn.running_var"], 1e6)}
    with pytest.raises(ModelError, match=r"last_bn\.running_var"):
        save_checkpoint(path, too_large, Header(name="bad"), torch.float16)
    assert load_checkpoint(path)[1].name == "good"


def test_someone_elses_safetensors_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="no torchfakes header"):
        load_checkpoint(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "unknown format"),
        ({"architecture": "Xception"}, "Xception"),
        ({"input_size": 10**6}, "input_size"),
        ({"margin": "wide"}, "margin"),
        ({"slope": -1.0}, "slope"),
        ({"scale": 0}, "scale"),
        ({"coarse_weight": 1.5}, "coarse_weight"),
        ({"fake_above": 0.2, "real_below": 0.8}, "fake_above"),
        ({"fake_above": float("nan")}, "fake_above"),
        ({"slope": 10**400}, "damaged"),
        ({"architecture": "timm:hf-hub:someone/model"}, "hf-hub"),
        ({"architecture": "InceptionResnetV1+EfficientNetLite0"}, "no network of the kind"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "c.safetensors", metadata=metadata(**changes))
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "c.safetensors")


@pytest.mark.parametrize("defect", ["missing", "unknown", "shape", "nan", "integer"])
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, state: dict[str, Tensor], defect: str) -> None:
    broken, name = dict(state), "conv2d_1a.conv.weight"
    if defect == "missing":
        del broken[name]
    elif defect == "unknown":
        broken["extra.weight"], name = torch.zeros(2), "extra.weight"
    elif defect == "shape":
        broken[name] = torch.zeros(1, 2, 3)
    elif defect == "nan":
        broken[name] = torch.full_like(broken[name], float("nan"))
    else:
        broken[name] = torch.zeros_like(broken[name], dtype=torch.int32)
    path = tmp_path / "c.safetensors"
    save_file({key: value.contiguous() for key, value in broken.items()}, path, metadata=metadata())
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_detector(path, "cpu")


def test_of_a_checkpoint_with_a_texture_model_the_network_alone_is_used(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    alone = {"slope": 0.5, "intercept": 0.1, "real_below": 0.4, "fake_above": 0.6, "calibrated_on": "9 videos"}
    texture = {"texture.offsets": torch.zeros(3)}
    save_file({**state, **texture}, tmp_path / "c.safetensors", metadata=metadata(slope=4.0, network_alone=alone))
    header = load_detector(tmp_path / "c.safetensors", "cpu").header
    assert {name: getattr(header, name) for name in alone} == alone
