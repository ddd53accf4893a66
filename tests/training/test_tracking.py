"""The course of a training reaches the log, the picture and the trackers that were asked for."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from tests.training.crop_folders import write_crops
from tests.training.test_train import TINY
from torchfakes_cli.errors import UsageError
from torchfakes_cli.training.fit.log import Record, open_trackers, track, write_curves, write_log
from torchfakes_cli.training.fit.train import train_detector

BLOCKS = ("stem", "repeat_1", "mixed_6a", "embedding", "logits")


def record(epoch: int, **changes: float | None) -> Record:
    fall = 0.9**epoch
    figures = {
        "epoch": epoch,
        "step": 10 * epoch,
        "loss": 0.9 * fall,
        "accuracy": 1 - 0.5 * fall,
        "val_loss": 0.8 * fall + 0.1,
        "val_accuracy": 1 - 0.5 * fall,
        "val_frame_auc": 1 - 0.5 * fall,
        "val_video_auc": 1 - 0.4 * fall,
        "learning_rate": 1e-3 * fall,
        "memory_mb": 900.0,
        "gradient_norm": 2.0,
        **{f"gradient_{name}": 10.0**-place for place, name in enumerate(BLOCKS)},
    }
    return {**figures, **changes}


def test_the_log_has_a_row_an_epoch_and_a_column_a_block(tmp_path: Path) -> None:
    write_log(tmp_path, [record(1), record(2, val_video_auc=None, memory_mb=None)])
    write_log(tmp_path, [record(1), record(2, val_video_auc=None, memory_mb=None)])
    with (tmp_path / "log.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert (rows[1]["val_video_auc"], rows[1]["memory_mb"]) == ("", "")
    assert float(rows[0]["gradient_stem"]) == 1.0
    assert float(rows[0]["gradient_logits"]) == pytest.approx(1e-4)


@pytest.mark.parametrize("epochs", [1, 30])
def test_the_curves_are_a_picture(tmp_path: Path, epochs: int) -> None:
    write_curves(tmp_path, [record(epoch, val_video_auc=None if epoch == 2 else 0.8) for epoch in range(1, epochs + 1)])
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    assert min(picture.shape[:2]) > 500
    assert picture.std() > 10


def test_a_tracker_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1}, frames=2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.safetensors").write_bytes(b"an earlier training")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as Python itself marks what can't be imported
    with pytest.raises(UsageError, match=r"pip install 'torchfakes\[wandb\]'"):
        train_detector(folder, replace(TINY, out=str(tmp_path / "run"), track=("wandb",), force=True))
    assert (tmp_path / "run" / "last.safetensors").exists()


def test_tensorboard_gets_losses_and_gradients(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tracker,) = open_trackers(replace(TINY, out=str(tmp_path), track=("tensorboard",)), "run", 0)
    track([tracker], 10, record(1))
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"train/loss", "train/gradient_norm", "gradients/stem", "validation/frame_auc"} <= names
    assert events.Scalars("train/loss")[0].value == pytest.approx(0.81)


@pytest.mark.slow
def test_wandb_gets_them_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra 'wandb' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1}, frames=2)
    config = replace(TINY, out=str(tmp_path / "run"), epochs=1, samples_per_epoch=80, track=("wandb",))
    train_detector(folder, config)
    (events,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    content = events.read_bytes()
    for name in (b"train/loss", b"gradients/repeat_1", b"validation/video_auc"):
        assert name in content
