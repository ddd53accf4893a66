"""What would make a training worthless is refused or told of, with counts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.training.crop_folders import row, write_crops
from tests.training.test_train import TINY
from torchfakes_cli.errors import DataError, ModelError
from torchfakes_cli.training.crops.manifest import PICTURES, kept_marks, picture_marks, read_manifest
from torchfakes_cli.training.evaluate.scores import Scores
from torchfakes_cli.training.fit.data_checks import check_duplicates, check_overlap, check_validation, collapse_warning
from torchfakes_cli.training.fit.train import train_detector

QUICK = replace(TINY, epochs=1, samples_per_epoch=4, batch=4, optimizer="sgd")


def find_duplicates(folder: Path) -> None:
    table = read_manifest(folder)
    check_duplicates(table, picture_marks(folder, table["crop"]), folder)


def test_the_same_footage_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 2, "val": 1, "test": 1}, frames=2)
    find_duplicates(folder)
    shutil.copy(folder / "train/real/film/p1/1_1.png", folder / "test/real/film/p4/0_1.png")
    with pytest.raises(DataError, match="1 crops lie in more than one split, such as") as caught:
        train_detector(folder, replace(QUICK, out=str(tmp_path / "run")))
    assert "p1/1_1.png" in str(caught.value)
    assert "p4/0_1.png" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_same_crop_twice_in_one_split_is_no_leak(tmp_path: Path) -> None:
    folder = write_crops(tmp_path, {"train": 2, "val": 1}, frames=2)
    shutil.copy(folder / "train/real/film/p1/0_1.png", folder / "train/real/film/p2/0_1.png")
    for name in ("train/real/film/p1/1_1.png", "val/real/film/p3/1_1.png"):
        (folder / name).write_bytes(b"")  # empty ones are broken, not alike
    (folder / "val/real/film/p3/0_1.png").unlink()
    find_duplicates(folder)


def test_pictures_that_the_start_was_trained_on_are_found_under_any_name(tmp_path: Path) -> None:
    earlier = write_crops(tmp_path / "earlier", {"train": 1}, frames=2)
    marks = picture_marks(earlier, read_manifest(earlier)["crop"])
    training = {"start": {"name": "earlier", "training": {PICTURES: kept_marks(marks.values())}}}
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1, "test": 1}, frames=2)
    table = read_manifest(folder)
    # The names of the earlier groups and crops are here too.
    assert check_overlap(table, picture_marks(folder, table["crop"]), training) == ""
    shutil.copy(earlier / "train/real/film/p1/0_1.png", folder / "test/real/film/p3/1_1.png")
    warning = check_overlap(table, picture_marks(folder, table["crop"]), training)
    assert "trained on at least 1 of the 8 validation and test crops" in warning


def test_few_validation_people_are_told_of_with_counts(tmp_path: Path) -> None:
    table = read_manifest(write_crops(tmp_path, {"val": 3}, frames=2))
    words = check_validation(table, tmp_path)
    assert "3 real videos of 3 groups and 3 fake ones of 3" in words
    many = pd.concat([table.assign(group=table["group"] + str(i), video=table["video"] + str(i)) for i in range(20)])
    assert check_validation(many, tmp_path) == ""


def test_stills_left_out_beside_videos_are_told_of(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1, "test": 1}, frames=2)
    table = read_manifest(folder)
    table = table[(table["split"] != "test") | (table["frame"] == 0)]  # stills alone are measured on
    stills = [row("val/real/film/p2/0_1.png", "val", "real", "stills", number, 0) for number in (8, 9)]
    pd.concat([table, pd.DataFrame(stills)]).to_csv(folder / "manifest.csv", index=False)
    summary = train_detector(folder, replace(QUICK, out=str(tmp_path / "run")))
    assert any("2 validation and 0 test crops of stills" in warning for warning in summary.warnings)
    assert summary.validation.crops == 4
    assert summary.test is not None
    assert summary.test.crops == 2


@pytest.mark.parametrize(("share", "word"), [(1.0, "fake"), (0.0, "real"), (0.99, "fake"), (0.5, ""), (0.9, "")])
def test_one_answer_for_all_is_a_collapse(share: float, word: str) -> None:
    words = collapse_warning(Scores(100, 10, 0.5, 0.5, called_fake=share))
    assert f"validation faces {word}:" in words if word else words == ""


@pytest.mark.slow
def test_a_collapsed_training_can_be_given_up(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1}, frames=2)
    config = replace(QUICK, out=str(tmp_path / "run"), epochs=3, learning_rate=1e-9, stop_on_collapse=1)
    with pytest.raises(ModelError, match="one answer for all in 1 epochs") as caught:
        train_detector(folder, config)
    assert str(tmp_path / "run" / "last.safetensors") in str(caught.value)
    assert len(pd.read_csv(tmp_path / "run" / "log.csv")) == 1


@pytest.mark.slow
def test_a_picture_bomb_is_passed_over_unread(tmp_path: Path) -> None:
    folder = write_crops(tmp_path, {"train": 2, "val": 1}, frames=2)
    done, data = cv2.imencode(".png", np.zeros((8, 8), np.uint8))
    assert done
    content = data.tobytes()
    sides = (20000).to_bytes(4, "big") * 2
    (folder / "train/real/film/p1/0_1.png").write_bytes(content[:16] + sides + content[24:])
    (folder / "train/real/film/p1/1_1.png").write_bytes(b"")
    one_pixel = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()
    (folder / "train/fake/swap/p2/0_1.png").write_bytes(one_pixel)
    summary = train_detector(folder, replace(QUICK, out=str(tmp_path / "run"), samples_per_epoch=8))
    assert any("could not be read and were passed over" in warning for warning in summary.warnings)
