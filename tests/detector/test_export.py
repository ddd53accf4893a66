"""An exported detector scores as it does here, and says what it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.portraits import portrait
from torchfakes_cli.detector import Header, export, export_onnx, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import build_network, load_weights, portable_state
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.detector.scoring import Detector
from torchfakes_cli.errors import ModelError, OutputError, UsageError


def save_small(path: Path) -> Path:
    """A detector with random weights that enlarges small crops."""
    torch.manual_seed(2)
    header = Header(name="small", input_size=96, crop_size=80, mean=0, scale=255, slope=3, intercept=0.5)
    save_checkpoint(path, portable_state(build_network()), header, torch.float16)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("model", ["shipped", "small"])
def test_onnx_and_torch_agree_on_a_face(tmp_path: Path, model: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = save_small(tmp_path / "small.safetensors") if model == "small" else shipped_checkpoint()
    made = export_onnx(path, tmp_path / "new" / "out.onnx")
    assert made.largest_difference < 1e-3
    state, header = load_checkpoint(path)
    load_weights(network := build_network(), state)
    detector = Detector(network, header, torch.device("cpu"), torch.float32)
    side = header.picture_size
    crop = np.ascontiguousarray(portrait()[:side, :side])
    session = runtime.InferenceSession(str(made.path))
    logit, p_fake = session.run(None, {"crops": crop.transpose(2, 0, 1)[None].astype(np.float32)})
    assert logit.shape == p_fake.shape == (1,)
    assert logit[0] == pytest.approx(detector.score([crop])[0], abs=1e-3)
    assert p_fake[0] == pytest.approx(detector.probability(float(logit[0])), abs=1e-4)
    properties = {entry.key: entry.value for entry in onnx.load(str(made.path)).metadata_props}
    assert json.loads(properties["torchfakes"])["name"] == header.name
    with pytest.raises(OutputError, match="--force"):
        export_onnx(path, made.path)


@pytest.mark.slow
def test_scores_that_differ_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differ from torch's"):
        export_onnx(save_small(tmp_path / "small.safetensors"), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_without_its_libraries_it_says_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in export.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"onnx and onnxruntime.*torchfakes\[onnx\]"):
        export_onnx(shipped_checkpoint(), tmp_path / "out.onnx")
