"""``torchfakes train`` turns what the user gave, a recipe or an interrupted training into the settings that count."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.training.crop_folders import write_crops
from torchfakes_cli.cli import app
from torchfakes_cli.detector.checkpoint import load_checkpoint

TINY = ("--weights", "scratch", "--epochs", 1, "--samples-per-epoch", 12, "--batch-size", 4, "--workers", 0,
        "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("crops"), {"train": 1, "val": 1}, frames=2)


def train(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.slow
def test_a_recipe_gives_what_the_user_does_not(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchfakes_cli.cli.console.screen._TELL_EACH_S", 0.0)
    ended = train(crops, "--recipe", "origin", *TINY, "--input-size", 75, "--optimizer", "sgd", "--output", tmp_path)
    assert ended.exit_code == 0, ended.output
    header = load_checkpoint(tmp_path / "last.safetensors")[1]
    config = header.training["config"]
    assert (config["epochs"], config["optimizer"], config["input_size"]) == (1, "sgd", 75)
    assert (config["sampling"], config["augment"], config["ranking"], config["ema"]) == ("plain", "none", 0.0, 0.0)
    assert (header.mean, header.scale) == (0.0, 255.0)
    assert "curves.png" in ended.stderr
    # Without a terminal there are lines instead of a bar.
    assert "epoch 1 of 1: loss" in ended.stderr
    assert "training: 8 of 12 crops, about" in ended.stderr
    # The figures of the table are those of the best epoch, and there are too few people for an interval.
    (by_frame, by_video) = re.findall(r"validation AUC ([\d.]+) by frame, ([\d.]+) by video", ended.stderr)[0]
    (row,) = (line for line in ended.stdout.splitlines() if "validation" in line)
    assert re.findall(r"[\d.–]+", row) == ["2", "4", by_frame, by_video]


def test_settings_that_contradict_each_other_are_usage_errors(crops: Path, tmp_path: Path) -> None:
    ended = train(crops, "--recipe", "origin", "--ranking", "0.5", "--output", tmp_path / "run")
    assert ended.exit_code == 2
    assert "--ranking" in ended.stderr
    assert train(crops, "--resume", "--force", "--output", tmp_path).exit_code == 1


def test_nothing_to_resume_is_an_error_with_advice(crops: Path, tmp_path: Path) -> None:
    ended = train(crops, "--resume", "--output", tmp_path)
    assert ended.exit_code == 1
    assert "nothing to resume" in ended.stderr
