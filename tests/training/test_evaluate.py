"""An evaluation from a folder of crops to its report, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.training.crop_folders import row, write_crops
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.detector import load_detector
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.errors import DataError, OutputError, UsageError
from torchfakes_cli.training.config import EvaluateConfig
from torchfakes_cli.training.crops.manifest import PICTURES, kept_marks, picture_marks, read_crop
from torchfakes_cli.training.evaluate.evaluate import EvaluateSummary, evaluate_detector
from torchfakes_cli.training.evaluate.findings import Estimate
from torchfakes_cli.training.evaluate.report import estimate_text, make_out

PEOPLE = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with random weights and a small input, whose thresholds leave room for every verdict."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    header = Header(name="tiny", input_size=75, slope=40.0, real_below=0.4, fake_above=0.6, calibrated_on="nothing")
    save_checkpoint(path, portable_state(build_network()), header, torch.float16)
    return path


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_crops(tmp_path_factory.mktemp("crops"), {"train": 1, "val": PEOPLE, "test": PEOPLE})
    # Nearly the detector's 1.3.
    (folder / "prepare.json").write_text(json.dumps({"settings": {"margin": 1.35}}))
    return folder


@pytest.fixture
def config(model: Path, tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(out=str(tmp_path / "out"), models=(str(model),), device="cpu", rounds=100)


@pytest.fixture(scope="module")
def measured(crops: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluateSummary:
    out = tmp_path_factory.mktemp("measured") / "out"
    config = EvaluateConfig(
        out=str(out), models=(str(model),), device="cpu", rounds=100, robustness=("h264", "noise"), levels=(1, 5),
        robustness_frames=3,
    )  # fmt: skip
    return evaluate_detector(crops, config, command="torchfakes evaluate crops")


def document(summary: EvaluateSummary) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found: dict[str, Any] = json.loads(summary.document.read_text(), parse_constant=refuse)
    return found


def test_others_can_compute_the_figures_from_the_tables(measured: EvaluateSummary) -> None:
    (result,) = measured.evaluation.results
    for name, figures in (("scores.csv", result.video), ("frames.csv", result.frame)):
        table = pd.read_csv(measured.out / name)
        fake = table["label"] == "fake"
        assert len(table) == figures.real + figures.fake
        assert figures.auc.value == pytest.approx(roc_auc_score(fake, table["logit"]))
        assert figures.coverage.value == pytest.approx((table["verdict"] != "inconclusive").mean())
    assert result.video.real == result.video.fake == PEOPLE
    assert result.frame.real == 4 * PEOPLE


def test_the_verdicts_rule_stands_beside_others(measured: EvaluateSummary) -> None:
    (result,) = measured.evaluation.results
    own, *others = result.rules
    assert own.auc == result.video.auc
    faces = pd.read_csv(measured.out / "frames.csv").groupby("video")
    fake = faces["label"].first() == "fake"
    for name, logits in (("mean", faces["logit"].mean()), ("the most suspicious face", faces["logit"].max())):
        (auc,) = (rule.auc.value for rule in others if rule.name == name)
        assert auc == pytest.approx(roc_auc_score(fake, logits))
        assert f"| {name} | {auc:.3f}" in measured.report.read_text()


def test_scores_are_the_detectors(measured: EvaluateSummary, model: Path, crops: Path) -> None:
    table = pd.read_csv(measured.out / "frames.csv")
    detector = load_detector(model, "cpu")
    logits = detector.score([read_crop(crops / crop) for crop in table["crop"]])
    assert list(table["logit"]) == pytest.approx(list(logits), abs=1e-3)


def test_the_report_is_for_people_and_for_programs(measured: EvaluateSummary) -> None:
    text, found = measured.report.read_text(), document(measured)
    assert (found["format"], found["schema"]) == ("torchfakes evaluation", 1)
    assert "torchfakes evaluate crops" in text
    assert "The set is small" in text
    (result,) = found["results"]
    assert f"{result['video']['auc']['value']:.3f}" in text
    for name in result["plots"]:
        assert f"]({name})" in text
        assert cv2.imread(str(measured.out / name)) is not None
    assert set(result["plots"]) == {"roc.png", "reliability.png", "scores.png", "robustness.png"}


def test_every_field_is_written(measured: EvaluateSummary) -> None:
    def check(value: object, written: object) -> None:
        if dataclasses.is_dataclass(value):
            assert isinstance(written, dict)
            assert list(written) == [field.name for field in dataclasses.fields(value)]
            for name, inner in written.items():
                check(getattr(value, name), inner)
        elif isinstance(value, tuple):
            assert isinstance(written, list)
            for each, of_it in zip(value, written, strict=True):
                check(each, of_it)

    check(measured.evaluation, document(measured))


def test_damage_is_measured_on_the_same_crops(measured: EvaluateSummary) -> None:
    (result,) = measured.evaluation.results
    clean, *rest = result.robustness
    assert [(part.kind, part.level, part.value) for part in rest] == [
        ("h264", 1, 23), ("h264", 5, 45), ("noise", 1, 0.001), ("noise", 5, 0.05),
    ]  # fmt: skip
    assert (clean.kind, clean.level, clean.flipped, clean.withdrawn) == ("", 0, 0.0, 0.0)
    for damage in result.robustness:
        assert sum(sum(counts.values()) for counts in damage.verdicts.values()) == 2 * PEOPLE
        assert damage.correct == damage.verdicts["real"]["real"] + damage.verdicts["fake"]["fake"]
        assert 0 <= (damage.flipped or 0) + (damage.withdrawn or 0) <= 1


@pytest.mark.slow
def test_several_detectors_and_corpora_give_a_table(model: Path, config: EvaluateConfig, tmp_path: Path) -> None:
    state, header = load_checkpoint(model)
    other = tmp_path / "other.safetensors"
    first = write_crops(tmp_path / "here" / "crops", {"test": 2}, frames=2)
    seen = picture_marks(first, ["test/fake/swap/p2/0_1.png"])  # not in the second set
    header = replace(header, slope=0.01, training={PICTURES: kept_marks(seen.values())})
    save_checkpoint(other, state, header, torch.float16)
    second = write_crops(tmp_path / "there" / "crops", {"test": 1}, frames=3)
    done: list[tuple[str, int, int | None]] = []
    summary = evaluate_detector(
        [first, second], replace(config, models=(str(model), str(other))), lambda *step: done.append(step)
    )
    results = summary.evaluation.results
    names = [(result.source, result.model) for result in results]
    assert names == [(source, name) for source in ("crops", "crops-2") for name in ("tiny (tiny)", "tiny (other)")]
    assert [any("at least 1 of these 8" in n for n in result.notes) for result in results] == [
        False,
        True,
        False,
        False,
    ]
    assert "| crops-2 |" in summary.report.read_text()
    assert len({plot for result in results for plot in result.plots}) == 4 * 3
    table = pd.read_csv(summary.out / "scores.csv")
    assert len(table.groupby(["model", "source"])) == 4
    # The weights are the same: only what is made of their logits differs.
    assert results[0].video.auc == results[1].video.auc
    assert results[1].video.coverage.value == 0
    assert ("scoring crops", 8, 8) in done
    assert ("scoring crops-2", 6, 6) in done


def test_one_class_is_reported_without_the_figures_it_has_not(crops: Path, config: EvaluateConfig) -> None:
    folder = crops.parent / "reals only"
    write_crops(folder, {"test": 2})
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table[table["label"] == "real"].to_csv(folder / "manifest.csv", index=False)
    summary = evaluate_detector(folder, replace(config, robustness=("jpeg",), levels=(1,)))
    (result,) = document(summary)["results"]
    assert result["video"]["auc"] == {"value": None, "low": None, "high": None}
    assert "nothing fake" in result["video"]["missing"]
    assert "nothing fake" in summary.report.read_text()
    assert result["video"]["coverage"]["value"] is not None
    assert result["plots"] == ["scores.png"]


def test_only_blurry_faces_give_no_score_and_no_crash(config: EvaluateConfig, tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"test": 1}, frames=2)
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table.assign(blurry=True).to_csv(folder / "manifest.csv", index=False)
    summary = evaluate_detector(folder, replace(config, robustness=("jpeg",), levels=(1,)))
    (result,) = summary.evaluation.results
    assert (result.video.unscored, result.video.coverage.value, result.video.auc.value) == (2, 0, None)
    assert "nothing was scored" in summary.report.read_text()
    assert result.plots == ()


def test_unreadable_and_blurry_crops_and_stills_are_counted(config: EvaluateConfig, tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "crops", {"test": 3})
    (folder / "test/real/film/p1/0_1.png").write_bytes(b"no picture")
    (folder / "test/fake/swap/p1/2_1.png").unlink()
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table.loc[table["video"] == "real/p2", "blurry"] = True
    still = {**row("test/real/film/p2/0_1.png", "test", "real", "stills", 9, 0), "video": "still"}
    table = pd.concat([table, pd.DataFrame([still])])
    table["small"] = table["video"].eq("fake/swap/p3") & table["frame"].eq(0)
    table.to_csv(folder / "manifest.csv", index=False)
    summary = evaluate_detector(folder, config)
    (source,), (result,) = summary.evaluation.sources, summary.evaluation.results
    assert (source.crops, source.unreadable, source.blurry, source.stills, source.unseen) == (17, 2, 4, 1, 1)
    assert (result.video.real, result.video.fake, result.video.unscored) == (2, 3, 1)
    assert result.video.verdicts["real"]["inconclusive"] >= 1
    assert "could not be read" in summary.report.read_text()
    scores = pd.read_csv(summary.out / "scores.csv")
    blurry = scores[scores["video"] == "real/p2"]
    assert list(blurry["reason"]) == ["all_blurry"]
    assert math.isnan(blurry["logit"].item())


@pytest.fixture
def telling(model: Path, tmp_path: Path) -> Path:
    """Crops that the random weights tell apart: where they point the wrong way, the labels are turned."""
    folder = write_crops(tmp_path / "telling", {"train": 1, "val": PEOPLE, "test": 2})
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    val = table[table["split"] == "val"]
    logits = load_detector(model, "cpu").score([read_crop(folder / crop) for crop in val["crop"]])
    if roc_auc_score(val["label"] == "fake", logits) < 0.5:
        table["label"] = table["label"].map({"real": "fake", "fake": "real"})
        table.assign(source="").to_csv(folder / "manifest.csv", index=False)
    return folder


def test_a_new_calibration_is_written_and_tried_on_others(
    telling: Path, config: EvaluateConfig, tmp_path: Path
) -> None:
    new = tmp_path / "new.safetensors"
    summary = evaluate_detector(telling, replace(config, split="val", calibrate=str(new)))
    found, header = summary.evaluation.calibration, load_checkpoint(new)[1]
    assert found is not None
    assert found.cross_validated is not None
    assert "cross-validated by group" in summary.report.read_text()
    assert (header.real_below, header.fake_above) == (found.real_below, found.fake_above)
    # What is reported of the detector is what it was before.
    assert summary.evaluation.models[0].slope == 40


@pytest.mark.slow
def test_coarse_copies_are_part_of_the_new_calibration(telling: Path, config: EvaluateConfig, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    summary = evaluate_detector(telling, replace(config, split="val", calibrate=str(new), coarse_weight=0.5))
    detector, table = load_detector(new, "cpu"), pd.read_csv(summary.out / "frames.csv")
    logits = detector.score([read_crop(telling / crop) for crop in table["crop"]])
    assert detector.header.coarse_weight == 0.5
    assert list(table["logit"]) == pytest.approx(list(logits), abs=1e-3)


@pytest.mark.slow
def test_a_calibration_remembers_its_people(telling: Path, config: EvaluateConfig, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    evaluate_detector(telling, replace(config, split="val", calibrate=str(new)))
    again = evaluate_detector(telling, replace(config, split="val", models=(str(new),)))
    assert any(f"as {PEOPLE} of these {PEOPLE}" in note for note in again.evaluation.results[0].notes)
    test = evaluate_detector(telling, replace(config, models=(str(new),)))
    assert not any("fitted on groups" in note for note in test.evaluation.results[0].notes)


def test_an_evaluation_replaces_an_earlier_one_and_nothing_else(
    crops: Path, config: EvaluateConfig, measured: EvaluateSummary, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(measured.out, out)
    assert (out / "robustness.png").exists()
    (out / "mine.png").write_bytes(b"mine")
    evaluate_detector(crops, config)
    assert not (out / "robustness.png").exists()  # it would show what the report doesn't
    assert (out / "mine.png").exists()
    assert not list(out.glob(".*"))


def test_files_of_others_are_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(OutputError, match=r"report\.md.*--force"):
        make_out(tmp_path, force=False)
    make_out(tmp_path, force=True)
    make_out(tmp_path / "new", force=False)
    with pytest.raises(OutputError, match="can't be made"):
        make_out(tmp_path / "report.md" / "below", force=False)


def test_what_cant_be_measured_says_why(crops: Path, config: EvaluateConfig, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    unfinished = write_crops(tmp_path / "unfinished", {"test": 1}, frames=1)
    (unfinished / "manifest.csv").unlink()
    only_test = write_crops(tmp_path / "only test", {"test": 1}, frames=1)
    wide = write_crops(tmp_path / "wide", {"test": 1}, frames=1)
    (wide / "prepare.json").write_text(json.dumps({"settings": {"margin": 1.7}}))
    gone = write_crops(tmp_path / "gone", {"test": 1}, frames=1)
    for crop in gone.rglob("*.png"):
        crop.unlink()
    for path, changes, words in (
        (tmp_path / "nowhere", {}, "is not a folder.*prepare"),
        (empty, {}, "no known layout"),
        (unfinished, {}, "manifest.*prepare"),
        (only_test, {"split": "val"}, "no crops of the split val.*2 test"),
        (wide, {}, "margin 1.7.*--margin 1.3"),
        (gone, {}, "none of 2 crops"),
    ):
        with pytest.raises(DataError, match=words):
            evaluate_detector(path, replace(config, **changes))
    with pytest.raises(UsageError, match="'rain'"):
        evaluate_detector(crops, replace(config, robustness=("rain",)))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_chance_is_the_same_every_time(crops: Path, config: EvaluateConfig, measured: EvaluateSummary) -> None:
    again = evaluate_detector(crops, replace(config, robustness=("noise",), levels=(5,), robustness_frames=3))
    # Batches are composed otherwise, which moves scores by rounding errors: they don't reach the document.
    (first,), (second,) = document(measured)["results"], document(again)["results"]
    assert first["video"] == second["video"]
    assert [part for part in first["robustness"] if (part["kind"], part["level"]) == ("noise", 5)] == [
        second["robustness"][-1]
    ]


def test_intervals_are_shown_only_where_there_are_people_enough() -> None:
    assert estimate_text(Estimate()) == "–"
    assert estimate_text(Estimate(1.0)) == "1.000"
    assert estimate_text(Estimate(np.float64(0.5), 0.25, 0.75)) == "0.500 (0.250–0.750)"
