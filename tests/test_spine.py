"""The whole way as a user goes it: a corpus becomes crops, crops a detector, and the detector a verdict."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.clips import write_clip
from tests.portraits import Pixels, scene
from torchfakes_cli.cli import app

SPLITS = {"ann": "train", "bea": "train", "cay": "val", "dee": "test"}
FRAMES = 6


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def person(tone: float, *, fake: bool) -> Iterator[Pixels]:
    """A face that drifts across a gray room; the fake one is smeared and reddened in the middle."""
    for frame in range(FRAMES):
        x, y = 150 + 3 * frame, 110
        picture = np.clip(scene((320, 240), (x, y), 120.0) * tone, 0, 255)
        if fake:
            mask = np.zeros((240, 320, 1), np.float32)
            cv2.ellipse(mask, (x, y + 8), (34, 46), 0, 0, 360, 1.0, -1)
            smeared = cv2.GaussianBlur(picture, (0, 0), 3) + np.array([45.0, -15.0, -15.0])
            picture = np.clip(smeared * mask + picture * (1 - mask), 0, 255)
        yield picture.astype(np.uint8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number, (name, split) in enumerate(SPLITS.items()):
        for label, method in (("real", "film"), ("fake", "swap")):
            path = folder / label / method / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_clip(path, person(0.75 + 0.1 * number, fake=label == "fake"), fps=6)
            rows.append([path.relative_to(folder).as_posix(), label, method, name, split])
    with (folder / "clips.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["path", "label", "method", "group", "split"], *rows])
    return folder


def test_from_a_corpus_to_a_verdict(corpus: Path, tmp_path: Path) -> None:
    crops, run = tmp_path / "crops", tmp_path / "run"
    prepared = command("prepare", corpus, "--output", crops, "--frames-per-video", FRAMES, "--jobs", 1)
    assert prepared.exit_code == 0, prepared.output
    with (crops / "manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["group"], row["split"]) for row in rows} == set(SPLITS.items())
    assert len(rows) == 2 * len(SPLITS) * FRAMES

    options = ["--weights", "scratch", "--epochs", 1, "--samples-per-epoch", 64, "--batch-size", 8, "--input-size", 75]
    trained = command("train", crops, "--output", run, "--name", "mine", "--dropout", 0, "--augment", "none", *options,
                      "--lr", 0.002, "--workers", 0, "--device", "cpu")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert "validation" in trained.stdout
    assert "test" in trained.stdout
    files = ["best.safetensors", "curves.png", "last.safetensors", "log.csv"]
    assert sorted(path.name for path in run.iterdir()) == files

    scores = {}
    for label, method in (("real", "film"), ("fake", "swap")):
        clip = corpus / label / method / "dee.mp4"
        scanned = command("scan", clip, "--model", run / "best.safetensors", "--json", "--device", "cpu")
        assert scanned.exit_code == 0, scanned.output
        document = json.loads(scanned.stdout)
        assert document["model"] == "mine"
        scores[label] = document["p_fake"]
    assert scores["fake"] > scores["real"]


def test_training_offline_without_weights_says_what_to_do(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchfakes_cli.detector import download

    crops = tmp_path / "crops"
    assert command("prepare", corpus, "--output", crops, "--frames-per-video", 2, "--jobs", 1).exit_code == 0
    monkeypatch.setenv(download.VGGFACE2_VARIABLE, "http://127.0.0.1:9/weights.pt")
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(download, "RETRIES", 0)
    ended = command("train", crops, "--output", tmp_path / "run", "--device", "cpu")
    assert ended.exit_code == 1
    assert "can't be fetched" in ended.stderr
    assert "--weights scratch" in ended.stderr


def test_training_without_crops_says_what_to_run(tmp_path: Path) -> None:
    ended = command("train", tmp_path)
    assert ended.exit_code == 1
    assert "Run 'torchfakes prepare' first." in ended.stderr
