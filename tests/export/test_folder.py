"""An exported detector scores as it does here, finds faces as it does here, and says what it is."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.portraits import portrait
from torchfakes_cli.cli import app
from torchfakes_cli.detector.checkpoint import load_network
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.errors import DataError, ModelError, OutputError, UsageError
from torchfakes_cli.export import networks, parity
from torchfakes_cli.export.folder import export_model, without_nan
from torchfakes_cli.export.parity import BOUNDS, Boxes, Outputs, Scores


@pytest.mark.slow
@pytest.mark.parametrize("model", ["shipped", "small"])
def test_onnx_and_torch_agree_on_a_face(tmp_path: Path, small_model: Path, model: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = small_model if model == "small" else shipped_checkpoint()
    made = export_model(path, tmp_path / "new" / "out.onnx")
    assert made.scores[0].largest < 1e-3
    assert not made.doubts
    network, header = load_network(path)
    detector = Detector(network, header, torch.device("cpu"), torch.float32)
    side = header.picture_size
    crop = np.ascontiguousarray(portrait()[:side, :side])
    session = runtime.InferenceSession(str(made.files[0].path))
    logit, p_fake = session.run(None, {"crops": crop.transpose(2, 0, 1)[None].astype(np.float32)})
    assert logit.shape == p_fake.shape == (1,)
    assert logit[0] == pytest.approx(detector.score([crop])[0], abs=1e-3)
    assert p_fake[0] == pytest.approx(detector.probability(float(logit[0])), abs=1e-4)
    properties = {entry.key: entry.value for entry in onnx.load(str(made.files[0].path)).metadata_props}
    assert json.loads(properties["torchfakes"])["name"] == header.name
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"out.onnx", "out.json"}
    with pytest.raises(OutputError, match="--force"):
        export_model(path, made.files[0].path)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.51), ("int8", 0.29)])
def test_a_smaller_folder_finds_and_scores_faces_as_here(
    tmp_path: Path, pictures: Path, precision: str, share: float
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "app"
    made = export_model("torchfakes", out, precision=precision, cascade_precision=precision, pictures=pictures)
    assert not made.doubts
    assert made.boxes is not None
    assert made.boxes.both == made.boxes.torch == 12
    assert made.boxes.files <= 13
    assert made.scores[1].largest < 0.3
    # The checkpoint that ships has 3.4 million weights, four bytes each in fp32.
    assert made.files[0].megabytes < share * 13.7
    facts = json.loads((out / "torchfakes.json").read_text(encoding="utf-8"))
    assert facts["detector"]["precision"] == facts["cascade"]["precision"] == precision
    assert facts["parity"]["boxes"]["both"] == 12
    assert {file.name for file in out.iterdir()} == {
        "detector.onnx", "pnet.onnx", "rnet.onnx", "onet.onnx", "torchfakes.json",
    }  # fmt: skip


@pytest.mark.slow
def test_what_differs_too_much_is_refused_unless_accepted(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    strict = parity.Bound(largest=-1.0, mean=0.0, outputs=0.0, verdicts=1.0, faces=1.0, overlap=1.0)
    monkeypatch.setitem(BOUNDS, "fp32", strict)
    out = tmp_path / "out.onnx"
    refused = CliRunner().invoke(app, ["models", "export", str(small_model), str(out)])
    assert refused.exit_code == 1
    assert "differ from torch's" in refused.stderr
    assert "--accept" in refused.stderr
    assert not out.exists()
    accepted = CliRunner().invoke(app, ["models", "export", str(small_model), str(out), "--accept", "--json"])
    assert accepted.exit_code == 0
    assert "differ from torch's" in accepted.stderr
    assert json.loads(accepted.stdout)["files"][0]["path"] == str(out)
    assert out.exists()


@pytest.mark.parametrize("name", BOUNDS)
def test_what_is_no_number_is_beyond_every_bound(name: str) -> None:
    nan = float("nan")
    assert Scores("x", 8, nan, nan, 1.0, 1.0, None, None).trouble(BOUNDS[name])
    assert Outputs(nan, nan).trouble("pnet", BOUNDS[name])
    assert not Scores("x", 8, 0.0, 0.0, 1.0, 1.0, None, None).trouble(BOUNDS[name])
    assert not Boxes(4, 0, 0, 0, None).trouble(BOUNDS[name])


def test_documents_have_null_for_what_is_no_number() -> None:
    found = {"pnet": asdict(Outputs(float("nan"), 0.5)), "scores": (float("nan"),)}
    written = json.dumps(without_nan(found), allow_nan=False)
    assert json.loads(written) == {"pnet": {"largest": None, "mean": 0.5}, "scores": [None]}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Scores("the crops", 100, 0.5, 0.05, 0.9, 1.0, 0.8, 0.8), "90.0% of verdicts"),
        (Scores("the crops", 100, 0.5, 0.5, 1.0, 1.0, 0.8, 0.8), "0.5 on average"),
        (Boxes(100, 100, 100, 90, 0.99), "90 of torch's 100 faces are found, and 10 others"),
        (Boxes(100, 100, 100, 100, 0.8), "overlap torch's by 0.800"),
    ],
)
def test_a_bound_is_named_with_what_is_beyond_it(found: Scores | Boxes, words: str) -> None:
    assert words in found.trouble(BOUNDS["int8"])


def test_without_its_libraries_it_says_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in networks.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"onnx and onnxruntime.*torchfakes\[onnx\]"):
        export_model(shipped_checkpoint(), tmp_path / "out.onnx")


def test_a_folder_without_pictures_or_a_detector_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(DataError, match="no pictures"):
        export_model("torchfakes", tmp_path / "out", pictures=tmp_path)
    with pytest.raises(ModelError, match="no such"):
        export_model(tmp_path / "missing.safetensors", tmp_path / "out")
    (tmp_path / "file").write_text("here first")
    with pytest.raises(OutputError, match="is a file"):
        export_model("torchfakes", tmp_path / "file")
