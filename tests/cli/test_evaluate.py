"""``torchfakes evaluate`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.clips import write_clip
from tests.people import natural
from tests.training.crop_folders import write_crops
from torchfakes_cli.cli import app


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_crops(tmp_path_factory.mktemp("crops"), {"val": 1, "test": 1}, frames=2)
    # The fakes were cut with the boxes of their originals: it is known who was altered.
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table.loc[table["label"] == "fake", "boxes_from"] = "original"
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


def test_tables_go_to_the_terminal_and_the_rest_to_a_folder(crops: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", str(crops), "--model", str(model), "-o", str(out), "--bootstrap", "100"]
    ended = CliRunner().invoke(app, [*arguments, "--robustness", "jpeg", "--levels", "1,5"])
    assert ended.exit_code == 0, ended.output
    assert crops.name in ended.stdout
    assert "swap" in ended.stdout
    assert "of 1 fake videos with a known altered person" in " ".join(ended.stdout.split())
    assert "of these with the altered person flagged" in (out / "report.md").read_text()
    assert json.loads((out / "report.json").read_text())["results"][0]["altered"]["videos"] == 1
    assert "warning: The set is small" in ended.stderr
    assert str(out / "report.md") in ended.stderr
    written = {path.name for path in out.iterdir()}
    assert {"report.md", "report.json", "scores.csv", "frames.csv", "robustness.png"} <= written


def test_json_is_the_document_and_nothing_else(crops: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", str(crops), "--model", str(model), "-o", str(out), "--bootstrap", "100", "--json"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout) == json.loads((out / "report.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 1, "is not a folder"),
        ([".", "--levels", "mild"], 2, "--levels takes numbers"),
        ([".", "--levels", "0,6"], 2, "from 1 to 5"),
        ([".", "--robustness", "rain"], 2, "no damage called"),
        ([".", "--split", "train", "--calibrate", "x.safetensors"], 2, "trained on"),
        ([".", "--model", "nowhere.safetensors"], 1, "no such checkpoint"),
        (["https://example.org/crops"], 2, "URLs are not opened"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, ["evaluate", *arguments])
    assert ended.exit_code == code
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not ended.stdout


@pytest.mark.slow
def test_a_corpus_is_cut_first_and_only_once(model: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for name in ("real/a", "real/b", "fake/swap/a"):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(corpus / f"{name}.mp4", [natural()] * 6, fps=6)
    out = tmp_path / "out"
    arguments = ["evaluate", str(corpus), "--model", str(model), "-o", str(out), "--bootstrap", "100"]
    arguments += ["--split", "all", "--frames-per-video", "4", "--jobs", "1"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    (crops,) = (out / "crops").iterdir()
    times = {path: path.stat().st_mtime_ns for path in crops.rglob("*.png")}
    assert times
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in crops.rglob("*.png")} == times
