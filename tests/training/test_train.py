"""Training learns what can be learnt, keeps its promises about files, and refuses what can't be trained on."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training.crop_folders import write_crops
from tests.training.scored_rows import crops as crop_rows
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.errors import DataError, ModelError, ModelNotFoundError, OutputError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import read_crop, read_manifest
from torchfakes_cli.training.evaluate.calibrate import trained_groups
from torchfakes_cli.training.evaluate.metrics import verdict_counts
from torchfakes_cli.training.evaluate.scores import judge_videos
from torchfakes_cli.training.fit.datasets import PairDataset
from torchfakes_cli.training.fit.train import TrainProgress, TrainSummary, train_detector
from torchfakes_cli.training.fit.update import pair_loss

TINY = TrainConfig(
    start="scratch", epochs=2, samples_per_epoch=96, batch=8, input_size=75, workers=0, dropout=0.0, augment="none",
    self_blend=0.0, learning_rate=2e-3, ema=0.0, device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("crops"), {"train": 4, "val": 2, "test": 2})


@pytest.fixture(scope="module")
def trained(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSummary, list[TrainProgress]]:
    steps: list[TrainProgress] = []
    config = replace(TINY, out=str(tmp_path_factory.mktemp("run")), name="tiny")
    return train_detector(crops, config, steps.append), steps


def test_it_learns_an_obvious_manipulation(trained: tuple[TrainSummary, list[TrainProgress]]) -> None:
    summary, _ = trained
    assert summary.test is not None
    assert summary.test.frame_auc is not None
    assert summary.test.frame_auc > 0.9


def test_the_verdicts_on_the_test_videos_add_up(trained: tuple[TrainSummary, list[TrainProgress]]) -> None:
    counts = trained[0].test_verdicts
    assert {label: sum(verdicts.values()) for label, verdicts in counts.items()} == {"real": 2, "fake": 2}
    assert counts == trained[0].header.metrics["test_verdicts"]


def test_verdicts_are_counted_at_the_checkpoints_thresholds() -> None:
    verdicts = ["real", "fake", "inconclusive", "fake"]
    counts = verdict_counts(pd.DataFrame({"label": ["real", "real", "fake", "fake"], "verdict": verdicts}))
    assert counts["real"] == {"real": 1, "fake": 1, "inconclusive": 0}
    assert counts["fake"] == {"real": 0, "fake": 1, "inconclusive": 1}


def test_the_best_checkpoint_is_ready_to_scan_with(
    trained: tuple[TrainSummary, list[TrainProgress]], crops: Path
) -> None:
    summary, _ = trained
    detector = load_detector(summary.best, "cpu")
    assert detector.name == "tiny"
    assert detector.header.input_size == 75
    assert 0 <= detector.real_below <= 0.5 <= detector.fake_above <= 1
    # Two videos of each class are too few to call it calibrated.
    assert not detector.header.calibrated_on
    assert "2 real and 2 fake validation videos" in detector.header.training["calibration"]
    assert any("does not count as calibrated" in warning for warning in summary.warnings)
    assert detector.header.metrics["test"]["videos"] == 4
    assert Path(summary.best).stat().st_size < 50e6
    table = read_manifest(crops)
    test = table[table["split"] == "test"]
    chances = [detector.probability(float(x)) for x in detector.score([read_crop(crops / c) for c in test["crop"]])]
    fake = (test["label"] == "fake").to_numpy()
    assert np.mean(np.array(chances)[fake]) > np.mean(np.array(chances)[~fake])


def test_progress_counts_every_crop_and_validates_each_epoch(
    trained: tuple[TrainSummary, list[TrainProgress]],
) -> None:
    _, steps = trained
    assert steps[-1].samples == steps[-1].samples_wanted == 192
    assert [step.epoch for step in steps if step.validation] == [1, 2]


def test_the_log_has_a_line_an_epoch(trained: tuple[TrainSummary, list[TrainProgress]]) -> None:
    with (Path(trained[0].best).parent / "log.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [line["epoch"] for line in lines] == ["1", "2"]
    assert all(0 <= float(line["val_frame_auc"]) <= 1 for line in lines)


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(
    trained: tuple[TrainSummary, list[TrainProgress]], crops: Path, tmp_path: Path
) -> None:
    config = replace(TINY, start=trained[0].last, out=str(tmp_path), epochs=1, samples_per_epoch=8, learning_rate=1e-6)
    summary = train_detector(crops, config)
    assert summary.test is not None
    assert trained[0].test is not None
    assert (summary.test.frame_auc or 0) > 0.8


def test_a_checkpoint_tells_its_recipe_and_not_where_it_was_made(
    trained: tuple[TrainSummary, list[TrainProgress]],
) -> None:
    training = trained[0].header.training
    assert training["start"] == "scratch"
    # The people that it was trained on are known by it, and not named.
    assert trained_groups(trained[0].header, [f"p{number}" for number in range(1, 9)]) == 4
    assert "p1" not in training["groups"]
    assert len(training["pictures"]) == 32
    assert training["config"]["self_blend"] == TINY.self_blend
    assert str(Path(trained[0].best).parent) not in str(training)


def test_a_start_that_is_not_there_says_so(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.safetensors"):
        train_detector(crops, replace(TINY, start=str(tmp_path / "nowhere.safetensors"), out=str(tmp_path)))


def test_a_folder_without_crops_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="torchfakes prepare"):
        train_detector(tmp_path, TINY)


@pytest.mark.parametrize(("split", "words"), [("val", "validation"), ("train", "to train on")])
def test_one_class_is_refused_before_the_first_step(tmp_path: Path, split: str, words: str) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1}, frames=2)
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table[(table["split"] != split) | (table["label"] == "real")].to_csv(folder / "manifest.csv", index=False)
    with pytest.raises(DataError, match=words) as caught:
        train_detector(folder, replace(TINY, out=str(tmp_path / "run")))
    assert " 0 fake" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_pair_is_a_fake_and_its_own_original(crops: Path) -> None:
    table = read_manifest(crops)
    train = table[table["split"] == "train"]
    dataset = PairDataset(train, crops, TINY, 40)
    reals = {read_crop(crops / c).tobytes(): c for c in train[train["label"] == "real"]["crop"]}
    fakes = {read_crop(crops / c).tobytes(): c for c in train[train["label"] == "fake"]["crop"]}
    full_size = PairDataset(train, crops, replace(TINY, input_size=96), 40)
    whole = 0
    for number in range(20):
        real, fake = (picture.numpy() for picture in full_size[number].pictures)
        original = reals[real.tobytes()]
        if fake.tobytes() in fakes:
            assert original.split("/")[3:] == fakes[fake.tobytes()].split("/")[3:]
            whole += 1
        else:
            # A part of the fake in its original: each pixel lies between the two.
            partner = read_crop(crops / original.replace("real/film", "fake/swap"))
            assert (fake >= np.minimum(real, partner)).all()
            assert (fake <= np.maximum(real, partner)).all()
            assert not np.array_equal(fake, real)
    assert 4 <= whole <= 16
    assert dataset[0].pictures.shape == (2, 75, 75, 3)


def test_the_number_alone_decides_a_pair(crops: Path) -> None:
    table = read_manifest(crops)
    config = replace(TINY, self_blend=0.5, augment="strong")
    first, second = (PairDataset(table[table["split"] == "train"], crops, config, 40) for _ in range(2))
    second[3]
    assert all(torch.equal(first[number].pictures, second[number].pictures) for number in (7, 0, 39))
    other = PairDataset(table[table["split"] == "train"], crops, replace(config, seed=1), 40)
    assert not all(torch.equal(first[number].pictures, other[number].pictures) for number in range(5))


def test_genuine_faces_alone_can_be_trained_on(crops: Path) -> None:
    table = read_manifest(crops)
    reals = table[(table["split"] == "train") & (table["label"] == "real")]
    dataset = PairDataset(reals, crops, replace(TINY, self_blend=1.0), 40)
    differing = [not torch.equal(*dataset[number].pictures) for number in range(10)]
    assert all(differing)
    with pytest.raises(DataError, match="--self-blend"):
        PairDataset(reals, crops, TINY, 40)


def test_a_broken_crop_is_passed_over_and_counted(tmp_path: Path) -> None:
    folder = write_crops(tmp_path, {"train": 2}, frames=2)
    (folder / "train/real/film/p1/0_1.png").write_bytes(b"no picture")
    dataset = PairDataset(read_manifest(folder), folder, TINY, 40)
    pairs = [dataset[number] for number in range(20)]
    assert all(pair.pictures.any() and pair.error is None for pair in pairs)
    assert sum(pair.passed_over for pair in pairs) > 0


@pytest.mark.slow
def test_a_few_broken_crops_are_told_of(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 2, "val": 1}, frames=3)
    (folder / "train/real/film/p1/0_1.png").write_bytes(b"no picture")
    (folder / "val/real/film/p3/0_1.png").unlink()
    summary = train_detector(folder, replace(TINY, out=str(tmp_path / "run"), epochs=1, samples_per_epoch=16))
    assert any("passed over" in warning for warning in summary.warnings)
    assert any("1 validation or test crops could not be read" in warning for warning in summary.warnings)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_folder_of_broken_crops_is_refused_in_one_line(tmp_path: Path, workers: int) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1}, frames=2)
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="not a square picture") as caught:
        train_detector(folder, replace(TINY, out=str(tmp_path / "run"), workers=workers))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_unreadable_validation_crops_end_training_in_words(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 1, "val": 1}, frames=2)
    for path in (folder / "val").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of 4 crops could be read"):
        train_detector(folder, replace(TINY, out=str(tmp_path / "run"), epochs=1, samples_per_epoch=8))


def test_an_earlier_training_is_not_overwritten(trained: tuple[TrainSummary, list[TrainProgress]], crops: Path) -> None:
    folder = Path(trained[0].best).parent
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(OutputError, match="--force"):
        train_detector(crops, replace(TINY, out=str(folder)))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_diverging_training_stops_and_keeps_no_broken_weights(crops: Path, tmp_path: Path) -> None:
    config = replace(TINY, out=str(tmp_path), learning_rate=0.99, weight_decay=0.0, epochs=1, samples_per_epoch=8)
    state, header = load_checkpoint(Path(save_random(tmp_path / "start.safetensors")))
    state["logits.weight"] = torch.full_like(state["logits.weight"], 3e38)
    save_checkpoint(tmp_path / "start.safetensors", state, header)
    with pytest.raises(ModelError, match="diverged at step 0"):
        train_detector(crops, replace(config, start=str(tmp_path / "start.safetensors")))
    assert not (tmp_path / "best.safetensors").exists()
    assert not (tmp_path / "last.safetensors").exists()


def save_random(path: Path, **header: float) -> str:
    torch.manual_seed(0)
    save_checkpoint(path, portable_state(build_network()), Header(name="parent", **header))  # type: ignore[arg-type]
    return str(path)


def test_crops_of_another_margin_than_the_start_are_refused(crops: Path, tmp_path: Path) -> None:
    start = save_random(tmp_path / "start.safetensors", margin=1.6)
    with pytest.raises(DataError, match=r"--margin 1\.6"):
        train_detector(crops, replace(TINY, start=start, out=str(tmp_path / "run")))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("split", "trian", "unknown split 'trian'"), ("label", "1", "unknown label '1'"), ("split", "val", "'p1'")],
)
def test_a_manifest_that_mixes_up_its_splits_is_refused(tmp_path: Path, column: str, value: str, words: str) -> None:
    folder = write_crops(tmp_path / "crops", {"train": 2, "val": 1}, frames=2)
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False, dtype=str)
    table.loc[0, column] = value
    table.to_csv(folder / "manifest.csv", index=False)
    with pytest.raises(DataError, match=words):
        train_detector(folder, replace(TINY, out=str(tmp_path / "run")))


def test_a_fake_below_its_real_face_costs_more_the_further_it_is() -> None:
    labels = torch.tensor([[0.0], [1.0]])
    costs = [float(pair_loss(torch.tensor([[1.0], [1.0 + gap]]), labels, 1.0)) for gap in (2, 0, -2)]
    assert costs == sorted(costs)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([[1.0], [0.0]]), labels)
    assert float(pair_loss(torch.tensor([[1.0], [0.0]]), labels, 0.0, (0.0, 1.0))) == pytest.approx(float(plain))


def test_a_video_is_as_fake_as_its_worst_lasting_face() -> None:
    rows = [*crop_rows("v", [0.0] * 6), *crop_rows("v", [3.0] * 5 + [-50.0], face=2), *crop_rows("v", [9.0], face=3)]
    (found,) = judge_videos(pd.DataFrame(rows), Header(name=""))["logit"]
    assert found == pytest.approx(3.0)


@pytest.mark.slow
def test_a_network_that_gives_one_answer_is_called_out(crops: Path, tmp_path: Path) -> None:
    config = replace(TINY, out=str(tmp_path), epochs=1, samples_per_epoch=8, learning_rate=1e-9)
    steps: list[TrainProgress] = []
    summary = train_detector(crops, config, steps.append)
    assert any("collapsed to one class" in warning for warning in summary.warnings)
    assert any("collapsed" in step.warning for step in steps)
