"""A new calibration keeps its promises, is tried on others, and is remembered."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.scored_rows import HEADER, crops, people, table
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.errors import DataError, OutputError, UsageError
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.crops.manifest import group_marks
from torchfakes_cli.training.evaluate.calibrate import (
    calibrate,
    check_target,
    cross_validated,
    fitted_groups,
    fitted_header,
    trained_groups,
)
from torchfakes_cli.training.evaluate.scores import judge_videos

LOOSE = EvaluateConfig(split="val", false_alarms=0.2, missed_fakes=0.2)
APART = people(12, [-3.0, -2.0, -1.0, 1.5], [3.0, 2.0, 1.0, -1.5])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "old.safetensors"
    metrics = {"test": {"video_auc": 0.7}, "test_verdicts": {"real": {}}}
    header = replace(HEADER, name="old", metrics=metrics, licence="CC0")
    save_checkpoint(path, portable_state(build_network()), header, torch.float16)
    return path


@settings(max_examples=25)
@given(st.integers(0, 100), st.sampled_from(["platt", "temperature"]), st.floats(0, 0.4), st.floats(0, 0.4))
def test_no_more_mistakes_than_allowed(seed: int, fit: str, alarms: float, missed: float) -> None:
    rng = np.random.default_rng(seed)
    rows = people(10, list(rng.normal(-1, 2, 10)), list(rng.normal(1, 2, 10)))
    config = EvaluateConfig(split="val", calibration=fit, false_alarms=alarms, missed_fakes=missed)
    header = fitted_header(HEADER, judge_videos(rows, HEADER), config)
    judged = judge_videos(rows, header)
    real, fake = (judged[judged["label"] == label] for label in ("real", "fake"))
    assert header.slope >= 0
    assert (real["verdict"] == "fake").sum() <= alarms * len(real)
    assert (fake["verdict"] == "real").sum() <= missed * len(fake)
    assert fit == "platt" or header.intercept == 0


def test_unusable_videos_are_counted_but_not_fitted_on() -> None:
    few = table(crops("few", [5.0, 5.0, None, None], label="real"), crops("blurry", [None] * 4))
    with_few = pd.concat([APART, few])
    found, _ = cross_validated(with_few, HEADER, LOOSE)
    assert found is not None
    assert sum(sum(counts.values()) for counts in found.verdicts.values()) == 26


def test_cross_validation_is_worse_than_the_fit_and_better_than_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = people(40, list(rng.normal(-4, 6, 40)), list(rng.normal(4, 6, 40)))
    tried = cross_validated(rows, HEADER, LOOSE)
    worth, folds = tried
    assert folds == 5
    assert worth is not None
    assert worth.log_loss is not None
    assert worth.log_loss < 0.693
    assert sum(sum(counts.values()) for counts in worth.verdicts.values()) == 80
    assert cross_validated(people(1, [-1.0], [1.0]), HEADER, LOOSE) == (None, 0)


def test_a_new_checkpoint_has_the_old_weights_and_says_what_it_was_fitted_on(checkpoint: Path, tmp_path: Path) -> None:
    config = replace(LOOSE, calibrate=str(tmp_path / "new.safetensors"))
    found = calibrate(checkpoint, APART, "crops", config)
    (before, old), (after, new) = load_checkpoint(checkpoint), load_checkpoint(tmp_path / "new.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype and torch.equal(before[name], after[name]) for name in before)
    assert (new.slope, new.real_below, new.fake_above) == (found.slope, found.real_below, found.fake_above)
    assert new.calibrated_on == "24 val videos of 12 groups of crops (platt)"
    assert (new.name, new.licence, new.metrics["test"]) == (old.name, "CC0", old.metrics["test"])
    assert "test_verdicts" not in new.metrics  # they were counted at the old thresholds
    assert fitted_groups(new, [f"p{number}" for number in range(9, 15)]) == 3
    assert fitted_groups(old, ["p1"]) == 0
    assert "p11" not in str(new.metrics)
    assert found.fitted.log_loss is not None
    assert found.cross_validated is not None


def test_stills_alone_can_be_calibrated_on(checkpoint: Path, tmp_path: Path) -> None:
    found = calibrate(
        checkpoint, APART[APART["frame"] == 0], "crops", replace(LOOSE, calibrate=str(tmp_path / "new.safetensors"))
    )
    counts = found.fitted.verdicts
    assert counts["real"]["real"] > counts["real"]["fake"]
    assert counts["fake"]["fake"] > counts["fake"]["real"]
    assert sum(counts["fake"].values()) == 12
    assert found.cross_validated is not None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (APART[APART["label"] == "real"], "12 real and 0 fake"),
        (people(6, [2.0, 1.0], [-2.0, -1.0]), "don't separate real"),
    ],
)
def test_what_cant_be_calibrated_is_refused(checkpoint: Path, tmp_path: Path, rows: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        calibrate(checkpoint, rows, "crops", replace(LOOSE, calibrate=str(tmp_path / "new.safetensors")))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    taken = tmp_path / "taken.safetensors"
    taken.touch()
    check_target(tmp_path / "free.safetensors", force=False)
    check_target(taken, force=True)
    with pytest.raises(OutputError, match="--force"):
        check_target(taken, force=False)
    with pytest.raises(OutputError, match="folder"):
        check_target(tmp_path, force=True)


@pytest.mark.parametrize("split", ["train", "all"])
def test_nothing_is_calibrated_on_training_people(split: str) -> None:
    with pytest.raises(UsageError, match="trained on"):
        EvaluateConfig(split=split, calibrate="new.safetensors")


def test_a_header_of_someone_elses_making_is_no_trouble() -> None:
    for record in ("text", {"groups": "text"}, {"groups": None}, []):
        assert fitted_groups(Header(name="x", metrics={"calibration": record}), ["a"]) == 0
        assert trained_groups(Header(name="x", training={"groups": record, "start": record}), ["a"]) == 0


def test_a_large_training_is_recognized_by_a_share_of_its_people() -> None:
    people = [f"person {number}" for number in range(20_000)]
    header = Header(name="x", training={"groups": group_marks(people)})
    assert len(header.training["groups"]) < 5_000
    assert 100 < trained_groups(header, people[:1_000]) < 400
    assert trained_groups(header, (f"stranger {number}" for number in range(20_000))) == 0


def test_checkpoints_of_earlier_versions_know_their_people() -> None:
    earlier = hashlib.blake2b(b"p1", digest_size=4).hexdigest()
    assert trained_groups(Header(name="x", training={"groups": [earlier]}), ["p1", "p2"]) == 1


def test_another_coarse_weight_drops_the_figures_of_other_logits(checkpoint: Path, tmp_path: Path) -> None:
    kept = []
    for weight in (None, 0.0, 0.5):
        config = replace(LOOSE, calibrate=str(tmp_path / f"{weight}.safetensors"), coarse_weight=weight)
        calibrate(checkpoint, APART, "crops", config)
        header = load_checkpoint(tmp_path / f"{weight}.safetensors")[1]
        kept.append((header.coarse_weight, "test" in header.metrics, header.licence))
    assert kept == [(0, True, "CC0"), (0, True, "CC0"), (0.5, False, "CC0")]


def test_people_that_a_detector_was_trained_on_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    state, header = load_checkpoint(checkpoint)
    first = {"groups": group_marks(["p1", "elsewhere"]), "start": "vggface2"}
    later = {"groups": group_marks(["p2", "p77"]), "start": {"name": "first", "training": first}}
    trained = tmp_path / "trained.safetensors"
    save_checkpoint(trained, state, replace(header, training=later), torch.float16)
    config = replace(LOOSE, calibrate=str(tmp_path / "new.safetensors"))
    with pytest.raises(DataError, match="trained on groups of the same names as 2 of 12"):
        calibrate(trained, APART, "crops", config)
    calibrate(trained, APART[~APART["group"].isin(["p1", "p2"])], "crops", config)
