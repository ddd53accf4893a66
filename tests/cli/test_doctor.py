"""``torchfakes doctor`` tells what was chosen and why, also where something is missing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import torchfakes_cli
from torchfakes_cli.cli import app
from torchfakes_cli.detector import diagnostics, registry
from torchfakes_cli.detector.detector import choose_device, load_detector


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments], catch_exceptions=False, env={"COLUMNS": "160"})


def told(result: Result) -> dict[str, dict[str, str]]:
    return {fact["name"]: fact for fact in json.loads(result.stdout)["facts"]}


def test_this_machine_can_scan_and_each_choice_has_its_reason() -> None:
    ended = doctor("--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["can_scan"]
    found = told(ended)
    assert found["torchfakes"]["value"] == torchfakes_cli.__version__
    assert found["PyTorch"]["value"] == torch.__version__
    assert found["device"]["value"].startswith(choose_device().type)
    assert found["precision"]["value"] == load_detector().precision
    assert found["threads"]["value"] == str(torch.get_num_threads())
    assert all(found[name]["why"] for name in ("device", "precision", "threads", "memory limit", "thresholds"))
    assert {"H.264", "AV1"} <= set(found["decoders"]["value"].split(", "))
    assert found["decoding process"]["value"] == "starts"
    assert found["decoder's rights"]["value"] in ("without network and file writes", "those of its user")
    assert found["checksum"]["value"] == "right"


def test_a_person_reads_the_same_as_a_table() -> None:
    ended = doctor()
    assert ended.exit_code == 0
    for name in ("computing", "precision", "hardware decoding", "thresholds", "tensorboard", "cache"):
        assert name in ended.stdout
    assert not ended.stderr


def test_without_bfloat16_it_says_why_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    if choose_device().type != "cpu" or not torch.backends.mkldnn.is_available():
        pytest.skip("about processors with oneDNN")
    (precision,) = [fact for fact in diagnostics.computing_diagnostics() if fact.name == "precision"]
    assert precision.value == "float32"
    assert precision.why.startswith("this processor has no bfloat16 instructions")


@pytest.mark.parametrize(("module", "name"), [("av", "PyAV"), ("cv2", "OpenCV")])
def test_a_missing_library_is_told_of_and_the_rest_as_well(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "torchfakes_cli.video.diagnostics", raising=False)
    ended = doctor("--json")
    assert ended.exit_code == 1
    assert not json.loads(ended.stdout)["can_scan"]
    found = told(ended)
    assert (found[name]["value"], found[name]["standing"]) == ("missing", "broken")
    assert f"no scan can work: {name}: missing" in ended.stderr
    assert found["detector"]["standing"] == "good"


def test_modules_that_are_compiled_at_each_start_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    for place, value in ((tmp_path / "missing.pyc", "not kept"), (Path(__file__), "kept")):
        monkeypatch.setattr(spec, "cached", str(place))
        found = told(doctor("--json"))["compiled modules"]
        assert found["value"] == value
        assert ("python -m compileall" in found["why"]) == (found["standing"] == "limited") == (value == "not kept")


def test_a_detector_that_is_not_whole_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(diagnostics, "shipped_checkpoint", lambda: tmp_path / registry.SHIPPED)
    (tmp_path / registry.SHIPPED).write_bytes(b"half of it")
    ended = doctor("--json")
    assert ended.exit_code == 1
    assert told(ended)["detector"]["value"] == "can't be used"


def test_a_detector_other_than_the_recorded_one_is_told_of(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model, tmp_path))
    monkeypatch.setattr(diagnostics, "shipped_checkpoint", lambda: path)
    (tmp_path / f"{path.name}.sha256").write_text(f"{hashlib.sha256(b'another').hexdigest()}  {path.name}\n")
    ended = doctor("--json")
    assert ended.exit_code == 0
    assert told(ended)["checksum"]["value"].startswith("wrong")
    assert told(ended)["checksum"]["standing"] == "limited"
