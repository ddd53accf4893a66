"""``torchfakes models``: what it prints, and what a script is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from torchfakes_cli.cli import app
from torchfakes_cli.detector.checkpoint import Header, save_checkpoint
from torchfakes_cli.detector.registry import record_checksum, shipped_checkpoint
from torchfakes_cli.files import sha256_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHFAKES_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def models(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False, env={"COLUMNS": "160"})


def put(model: Path, folder: Path, name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    path = Path(shutil.copy(model, folder / f"{name}.safetensors"))
    record_checksum(path)
    return path


def test_a_list_tells_what_is_here_and_what_could_be(model: Path, folder: Path) -> None:
    put(model, folder)
    (folder / "torn.safetensors").write_bytes(b"half of it")
    ended = models("list", "--json")
    found = {entry["name"]: entry for entry in json.loads(ended.stdout)["detectors"]}
    assert {name: entry["state"] for name, entry in found.items()} == {
        "torchfakes": "ships", "mine": "here", "torn": "broken", "origin": "can be fetched",
    }  # fmt: skip
    assert found["mine"]["path"] == str(folder / "mine.safetensors")
    assert "can be fetched" in models("list").stdout


def test_no_file_passes_for_the_detector_that_ships(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torchfakes", "Torchfakes"):
        put(model, folder, name)
    shutil.copy(model, tmp_path / "torchfakes")
    monkeypatch.chdir(tmp_path)
    found = [entry for entry in json.loads(models("list", "--json").stdout)["detectors"] if entry["path"]]
    assert [(entry["name"], entry["path"]) for entry in found] == [("torchfakes", str(shipped_checkpoint()))]
    assert json.loads(models("show", "torchfakes", "--json").stdout)["path"] == str(shipped_checkpoint())


def test_remove_deletes_a_detector_and_its_checksum(model: Path, folder: Path) -> None:
    put(model, folder)
    ended = models("remove", "mine")
    assert ended.exit_code == 0
    assert "removed" in ended.stderr
    assert list(folder.iterdir()) == []
    for name, code, words in (
        ("mine", 1, "no detector 'mine'"), ("../mine", 1, "models list"), ("torchfakes", 2, "ships with torchfakes"),
    ):  # fmt: skip
        ended = models("remove", name)
        assert ended.exit_code == code
        assert words in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert shipped_checkpoint().is_file()


def test_the_detector_that_ships_is_shown_with_its_card() -> None:
    ended = models("show")
    assert ended.exit_code == 0
    card = (shipped_checkpoint().parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card in ended.stdout
    assert f"file: SHA-256: {sha256_of(shipped_checkpoint())}" in ended.stdout
    for words in ("licence: Apache-2.0", "without margin, at 160 pixels; RGB standardised", "95 % interval"):
        assert words in ended.stdout
    document = json.loads(models("show", "--json").stdout)
    assert document["card"] == card
    assert document["recorded_sha256"] == document["sha256"]
    assert document["header"]["input_size"] == 160


def test_a_hostile_header_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    metrics = {"test": {"video_auc": [1, {"a": "\x1b]0;"}]}, "n": "x" * 9999}
    header = Header(name="x\x1b[31m\nfile: SHA-256: 0", metrics=metrics)
    save_checkpoint(path, {"w": torch.zeros(1)}, header)
    ended = models("show", str(path))
    assert ended.exit_code == 0
    assert "\x1b" not in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) < 1000
    assert len([line for line in ended.stdout.splitlines() if line.startswith("file: SHA-256")]) == 1


def test_verify_finds_what_has_changed(model: Path, folder: Path) -> None:
    path = put(model, folder)
    assert models("verify", "mine").exit_code == 0
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ended = models("verify", "mine", "--json")
    assert ended.exit_code == 1
    (found,) = json.loads(ended.stdout)
    assert not found["right"]
    assert "changed since" in ended.stderr
    path.write_bytes(data[: len(data) // 2])
    ended = models("verify", "mine", "nobodys")
    assert ended.exit_code == 1
    assert "damaged" in ended.stderr
    assert "models list" in ended.stderr


@pytest.mark.slow
def test_an_imported_detector_scans_by_its_name(model: Path, clips: Path) -> None:
    ended = models("import", str(model), "--name", "mine", "--margin", "1.4")
    assert ended.exit_code == 0
    assert "it expects a square around the box, 1.4 times as large, at 160 pixels" in ended.stdout
    assert "a logit above zero is fake" in ended.stdout
    scan = ["scan", str(clips / "face.mp4"), "--model", "mine", "--json", "--device", "cpu"]
    document = json.loads(CliRunner().invoke(app, scan, catch_exceptions=False).stdout)
    assert (document["model"], document["status"]) == ("mine", "ok")


def test_what_is_refused_is_one_line_and_code_1(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    ended = models("import", str(tmp_path / "w.pth"))
    assert ended.exit_code == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "unknown (conv1.weight)" in ended.stderr
    assert models("fetch", "nobodys").exit_code == 2
    assert models("import", str(tmp_path / "w.pth"), "--preset", "bogus").exit_code == 2
