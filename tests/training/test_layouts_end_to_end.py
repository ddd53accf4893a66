"""Every corpus layout, from its folders to a detector with figures, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from tests.training.layouts import LAYOUTS
from torchfakes_cli.cli import app
from torchfakes_cli.training.crops.manifest import read_manifest

pytestmark = pytest.mark.slow


def command(*arguments: object) -> Result:
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_from_prepare_to_evaluate(layout: str, tmp_path: Path) -> None:
    written = LAYOUTS[layout](tmp_path / "corpus")
    crops, run, report = tmp_path / "crops", tmp_path / "run", tmp_path / "evaluation"
    reals = [part for folder in written.reals for part in ("--reals", folder)]
    command("prepare", written.corpus, *reals, "-o", crops, "--frames-per-video", 4, "--min-face", 24, "--jobs", 1,
            "--val", 0.3, "--test", 0.3, "--duplicate-threshold", 0, "--blur-threshold", 0)  # fmt: skip
    table = read_manifest(crops)
    assert table.groupby("group")["split"].nunique().max() == 1
    assert (table.groupby("split")["label"].nunique() == 2).all()

    command("train", crops, "-o", run, "--weights", "scratch", "--epochs", 1, "--samples-per-epoch", 16,
            "--batch-size", 8, "--input-size", 75, "--workers", 0, "--device", "cpu")  # fmt: skip
    command("evaluate", crops, "--model", run / "best.safetensors", "--split", "all", "--output", report,
            "--robustness", "jpeg", "--levels", "3", "--device", "cpu")  # fmt: skip
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    (result,) = document["results"]
    scores = pd.read_csv(report / "scores.csv")
    # One row a video, however many methods made fakes of the same name.
    assert len(scores) == table.groupby(["label", "method", "video"]).ngroups
    assert 0 <= result["video"]["auc"]["value"] <= 1
