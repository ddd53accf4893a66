"""A texture from crops: it tells manipulated faces from real ones, and makes a detector that scans and evaluates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training.crop_folders import write_crops
from torchfakes_cli.cli.console.texture_view import judged_text
from torchfakes_cli.config import EvaluateConfig, TextureConfig
from torchfakes_cli.detector import Header, load_checkpoint, load_detector, save_checkpoint
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.texture import LENGTH, Texture, describe
from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.training import TextureSummary, add_texture, evaluate_detector
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS, read_manifest
from torchfakes_cli.training.crops.reading import read_crop
from torchfakes_cli.training.evaluation.known import trained_groups
from torchfakes_cli.training.fitting.cross_validation import calibrated_by_others
from torchfakes_cli.training.fitting.self_blend import coarsened, sharpened
from torchfakes_cli.training.fitting.texture import Described, describe_crops, fit_texture


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("texture") / "crops", {"train": 6, "val": 4, "test": 4}, frames=2)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(path, portable_state(build_network()), Header(name="start"), torch.float16)
    return path


@pytest.fixture(scope="module")
def summary(crops: Path, start: Path) -> TextureSummary:
    config = TextureConfig(str(start), str(start.with_name("new.safetensors")), name="new", folds=3, device="cpu")
    return add_texture(crops, config)


def described(crops: Path, split: str, *, alter: bool = False) -> Described:
    table = read_manifest(crops)
    return describe_crops(table[table["split"] == split], crops, alter=alter)


def test_people_it_never_saw_are_told_apart(crops: Path) -> None:
    texture, kinds = fit_texture(described(crops, "train", alter=True))
    made_up = ("fake:made up, whole, of real:other", "fake:made up, face, of real:other")
    assert kinds == ("real:other", "fake:other", *made_up)
    unseen = described(crops, "test")
    logits, fake = texture.logits(unseen.values), (unseen.table["label"] == "fake").to_numpy()
    assert logits[fake].min() > logits[~fake].max()


def test_pairs_take_out_who_is_shown(crops: Path) -> None:
    """Fakes of people quite unlike the other reals: only their originals tell what the manipulation did."""
    found = described(crops, "train")
    found = replace(found, table=found.table.assign(boxes_from="original"))
    odd = np.random.default_rng(0).normal(0, 3, found.values.shape[1]).astype(np.float32)
    shifted = found.table["group"].isin(sorted(set(found.table["group"]))[:3]).to_numpy()
    values = found.values + shifted[:, None] * odd
    paired, _ = fit_texture(replace(found, values=values))
    alone = found.table.assign(source="")
    # Without the odd people's originals, being odd itself looks like the manipulation.
    kept = ~(shifted & (alone["label"] == "real").to_numpy()) & ~(~shifted & (alone["label"] == "fake").to_numpy())
    unpaired, _ = fit_texture(Described(alone[kept], values[kept], found.changes))

    def odd_people_gain(texture: object) -> float:
        return float(np.mean(texture.logits(values[shifted]) - texture.logits(found.values[shifted])))  # type: ignore[attr-defined]

    assert odd_people_gain(paired) < odd_people_gain(unpaired) / 2


def test_a_kind_that_no_crop_is_of_is_suspicious(crops: Path) -> None:
    """The fakes among the crops are smeared; enlarged and sharpened ones are known from what is made up alone."""
    found = described(crops, "train", alter=True)
    knowing, _ = fit_texture(found)
    ignorant, _ = fit_texture(Described(found.table, found.values, found.changes))
    table = read_manifest(crops)
    real = table[(table["split"] == "test") & (table["label"] == "real")]
    faces = [read_crop(crops / crop) for crop in real["crop"]]
    rng = np.random.default_rng(0)
    generated = [sharpened(coarsened(face, rng, (1.5, 2.5)), rng, 1.3) for face in faces]
    landmarks = real[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, 5, 2)
    before, after = (
        np.stack([describe(face, points) for face, points in zip(pictures, landmarks, strict=True)])
        for pictures in (faces, generated)
    )

    def rises(texture: Texture) -> float:
        return float(np.mean(texture.logits(after) - texture.logits(before)))

    assert rises(knowing) > max(0.0, rises(ignorant)) + 1


def test_fakes_that_vary_as_no_real_does_are_told_by_that(crops: Path) -> None:
    """On average they are like reals: only their own covariance tells them, whichever way they differ."""
    table = described(crops, "train").table.assign(source="")
    rng = np.random.default_rng(0)
    odd = rng.normal(0, 8, LENGTH) / np.sqrt(LENGTH)
    ways = np.where(table.groupby(["label", "video"]).ngroup() % 2, 1, -1) * (table["label"] == "fake")
    values = rng.normal(0, 0.01, (len(table), LENGTH)) + ways.to_numpy()[:, None] * odd
    texture, _ = fit_texture(Described(table, values.astype(np.float32), np.zeros((0, LENGTH), np.float32)))
    unseen = rng.normal(0, 0.01, (20, LENGTH))
    usual, one_way, other_way = (texture.logits((unseen + way * odd).astype(np.float32)) for way in (0, 1, -1))
    assert min(one_way.min(), other_way.min()) > usual.max() + 0.01


def test_what_was_made_up_stays_with_its_crop(crops: Path) -> None:
    found = described(crops, "train", alter=True)
    assert set(found.table["label"].iloc[found.made_up_of]) == {"real"}

    def by_crop(some: Described) -> dict[str, list[float]]:
        names = some.table["crop"].iloc[some.made_up_of]
        return {name: made_up[:, 0].tolist() for name, made_up in zip(names, some.made_up, strict=True)}

    chosen = (found.table["group"].isin(sorted(set(found.table["group"]))[::2])).to_numpy()
    some, others = found.only(chosen), found.only(~chosen)
    assert set(by_crop(some)) | set(by_crop(others)) == set(by_crop(found))
    assert by_crop(Described.together([some, others])) == by_crop(found)
    assert by_crop(some).items() <= by_crop(found).items()


def test_a_second_person_in_the_original_changes_nothing(crops: Path) -> None:
    """Where only one of two people was swapped, the other isn't part of what the manipulation changed."""
    found = described(crops, "train")
    found = replace(found, table=found.table.assign(boxes_from="original"))
    odd = np.random.default_rng(0).normal(0, 1, found.values.shape[1]).astype(np.float32)
    real = (found.table["label"] == "real").to_numpy()
    beside = found.table[real].assign(face=2, crop=found.table["crop"][real] + "2")
    both = Described(
        pd.concat([found.table, beside]), np.concatenate([found.values, found.values[real] + odd]), found.changes
    )
    apart = replace(both, table=both.table.assign(frame=both.table["frame"] + (both.table["label"] == "fake") * 100))

    def odd_gain(some: Described) -> float:
        texture, _ = fit_texture(some)
        return float(abs(np.mean(texture.logits(found.values + odd) - texture.logits(found.values))))

    assert odd_gain(both) < odd_gain(apart) / 10
    # Cut by boxes of its own, a fake's first face needn't be its original's.
    assert odd_gain(replace(both, table=both.table.assign(boxes_from="own"))) == odd_gain(apart)


def test_a_class_must_not_be_missing(crops: Path) -> None:
    found = described(crops, "val")
    real = (found.table["label"] == "real").to_numpy()
    with pytest.raises(DataError, match="none that are fake"):
        fit_texture(Described(found.table[real], found.values[real], found.changes))


def test_the_new_detector_is_whole(summary: TextureSummary, crops: Path, start: Path) -> None:
    before, after = load_checkpoint(start)[0], load_checkpoint(Path(summary.path))[0]
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert load_detector(summary.path, "cpu").texture is not None
    header = summary.header
    assert (header.name, header.training["start"]["name"]) == ("new", "start")
    assert header.calibrated_on == "20 training and validation videos of 10 groups"
    assert header.network_alone["calibrated_on"] == "8 validation videos of 4 groups"
    assert header.slope != header.network_alone["slope"]
    assert len(header.eight_bit["highest"]) == 135
    assert 0 < header.eight_bit["change"] < 0.1
    groups = read_manifest(crops).groupby("split")["group"].unique()
    assert [trained_groups(header, groups[split]) for split in ("train", "val", "test")] == [6, 4, 0]
    assert (summary.test.video_auc, summary.alone.videos, summary.left_out) == (1.0, 28, {})
    assert judged_text(summary.alone_judged).plain.splitlines()[1].startswith("of 14 real videos: ")


def test_probabilities_out_of_fold_owe_nothing_to_the_detectors_own_calibration(crops: Path) -> None:
    table = read_manifest(crops)
    rng = np.random.default_rng(0)
    rows = table.assign(logit=(table["label"] == "fake") + rng.normal(0, 1, len(table)), strangeness=0.0)
    doubted = rows["video"].isin(rows["video"].unique()[::4])
    rows.loc[doubted, "strangeness"] = 2.0
    found = [calibrated_by_others(rows, Header(name="own", slope=slope)) for slope in (0.1, 9.0)]
    assert found[0] == found[1]
    assert found[0].ece > 0
    open_ = [counts["inconclusive"] for counts in found[0].verdicts.values()]
    assert sum(open_) >= rows[doubted].groupby(["label", "video"]).ngroups > 0


@pytest.mark.slow
def test_evaluation_scores_with_the_texture_too(summary: TextureSummary, crops: Path, tmp_path: Path) -> None:
    found = evaluate_detector(crops, EvaluateConfig(out=str(tmp_path / "e"), models=(summary.path,), device="cpu"))
    assert [result.video.auc.value for result in found.evaluation.results] == [summary.test.video_auc]
    frames = pd.read_csv(tmp_path / "e" / "frames.csv")
    detector = load_detector(summary.path, "cpu")
    unseen = described(crops, "test")
    by_texture = dict(zip(unseen.table["crop"], detector.texture.logits(unseen.values), strict=True))
    network = frames["logit"] - frames["crop"].map(by_texture)
    # What is left is the weighted logit of a network with random weights, which hardly changes.
    assert float(np.ptp(network)) < 0.2 < float(np.ptp(frames["logit"]))


@pytest.mark.slow
def test_the_same_again_is_the_same(summary: TextureSummary, crops: Path, start: Path, tmp_path: Path) -> None:
    config = TextureConfig(str(start), str(tmp_path / "again.safetensors"), cross_validate=False, device="cpu")
    again = load_checkpoint(Path(add_texture(crops, config).path))[0]
    assert all(torch.equal(again[name], tensor) for name, tensor in load_checkpoint(Path(summary.path))[0].items())


def test_what_is_there_stays(summary: TextureSummary, crops: Path, start: Path) -> None:
    with pytest.raises(OutputError, match="there already"):
        add_texture(crops, TextureConfig(str(start), summary.path))


@pytest.mark.slow
def test_crops_of_another_margin_are_refused(crops: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "tight.safetensors", portable_state(build_network()), Header(name="tight", margin=1.0))
    with pytest.raises(DataError, match="margin"):
        add_texture(crops, TextureConfig(str(tmp_path / "tight.safetensors"), str(tmp_path / "out.safetensors")))


def test_a_training_from_a_textured_detector_takes_its_network(summary: TextureSummary) -> None:
    from torchfakes_cli.config import TrainConfig
    from torchfakes_cli.training.fitting.start import starting_point

    folder = Path(summary.path).parent
    (folder / "prepare.json").write_text('{"settings": {"margin": 1.3}}')
    network, header = starting_point(TrainConfig(start=summary.path), folder, ["a"])
    assert not any(name.startswith("texture") for name in network.state_dict())
    assert header.network_alone == header.eight_bit == {}
