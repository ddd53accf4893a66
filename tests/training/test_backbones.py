"""Other backbones, their weights, and learning from a teacher."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.training.crop_folders import write_crops
from tests.training.test_resume import assert_same_training, interrupt_at
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.errors import CheckpointError, ModelError, UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.fit.start import LITE0_PACKAGE, starting_point
from torchfakes_cli.training.fit.state import saved_config
from torchfakes_cli.training.fit.train import train_detector

LITE = TrainConfig(
    backbone="EfficientNetLite0", start="scratch", epochs=2, samples_per_epoch=8, batch=4, input_size=75, workers=0,
    self_blend=0.5, learning_rate=1e-3, ema=0.9, device="cpu", save_minutes=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("crops"), {"train": 2, "val": 1}, frames=3)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of EfficientNet-Lite0 with random weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("lite") / "lite.safetensors"
    header = Header(name="lite", architecture="EfficientNetLite0", input_size=96)
    save_checkpoint(path, portable_state(build_network("EfficientNetLite0")), header)
    return path


def test_a_lite_network_trains_and_its_checkpoint_says_what_it_is(crops: Path, tmp_path: Path) -> None:
    config = replace(LITE, epochs=1, sizes=(75, 80), input_size=None, mix={"swap": 0.5})
    summary = train_detector(crops, replace(config, out=str(tmp_path)))
    header = load_checkpoint(summary.best)[1]
    assert (header.architecture, header.input_size, header.mean, header.scale) == ("EfficientNetLite0", 80, 127.5, 128)
    assert "gradient_blocks_0" in (tmp_path / "log.csv").read_text()


@pytest.mark.slow
def test_a_training_with_a_teacher_resumes_to_the_bit(crops: Path, lite: Path, tmp_path: Path) -> None:
    # The second phase begins within the second epoch.
    config = replace(LITE, teacher=str(lite), feature_epochs=0.6)
    train_detector(crops, replace(config, out=str(tmp_path / "whole")))
    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train_detector(crops, replace(config, out=str(parts)), interrupt_at(3))
    train_detector(crops, saved_config(parts))
    assert_same_training(parts, tmp_path / "whole")
    state, header = load_checkpoint(parts / "last.safetensors")
    assert state.keys() == portable_state(build_network("EfficientNetLite0")).keys()
    assert header.training["teacher"]["name"] == "lite"


@pytest.mark.slow
def test_a_student_learns_to_match_its_teacher(crops: Path, lite: Path, tmp_path: Path) -> None:
    config = replace(LITE, teacher=str(lite), feature_epochs=1.0, epochs=1, samples_per_epoch=48, ema=0.0)
    losses: list[float] = []
    train_detector(crops, replace(config, out=str(tmp_path)), lambda told: losses.append(told.loss))
    steps = [loss for loss in losses if loss]
    assert steps[-1] < steps[0]


def test_trunks_are_loaded_by_either_names(crops: Path, lite: Path, tmp_path: Path) -> None:
    given = load_checkpoint(lite)[0]
    trunk = {n: given[n] for n in portable_state(build_network("EfficientNetLite0")) if not n.startswith("classifier")}
    original = {f"_{number}.weight": tensor for number, tensor in enumerate(trunk.values())}
    torch.save({**original, "_fc.weight": torch.zeros(1000, 1280)}, tmp_path / "original.pth")
    save_file({**trunk, "classifier.weight": torch.zeros(1000, 1280)}, tmp_path / "timm.safetensors")
    for name in ("original.pth", "timm.safetensors"):
        network, header = starting_point(replace(LITE, start=str(tmp_path / name)), crops, [])
        state = portable_state(network)
        assert all(torch.equal(state[n], t) for n, t in trunk.items())
        assert not torch.equal(state["classifier.weight"], load_checkpoint(lite)[0]["classifier.weight"])
        assert header.training["start"] == name


def test_the_backbone_is_that_of_the_checkpoint_unless_it_is_given(crops: Path, lite: Path) -> None:
    header = starting_point(replace(LITE, backbone=None, start=str(lite)), crops, [])[1]
    assert header.architecture == "EfficientNetLite0"


def test_the_imagenet_weights_come_from_their_package(crops: Path) -> None:
    pytest.importorskip(LITE0_PACKAGE.replace("-", "_"))
    network, _ = starting_point(replace(LITE, start=None), crops, [])
    assert float(network.get_parameter("conv_stem.weight").detach().std()) > 0.3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "vggface2"}, "are for InceptionResnetV1, not for EfficientNetLite0"),
        ({"backbone": "InceptionResnetV1", "start": "imagenet"}, "--weights vggface2"),
        ({"backbone": "ResNet50"}, "no network of the kind 'ResNet50'"),
        ({"backbone": "InceptionResnetV1", "start": "LITE"}, "--backbone EfficientNetLite0"),
        ({"start": "OTHER"}, "lacks 277 of 277|lacks 24. of 24"),
        ({"teacher": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"mix": {"nobody": 0.5}}, "'nobody', which the mix names"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    crops: Path, lite: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    shutil.copy(lite, tmp_path / "lite.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    places = {"LITE": str(tmp_path / "lite.safetensors"), "OTHER": str(tmp_path / "other.safetensors")}
    changes = {name: places.get(str(value), value) for name, value in changes.items()}
    with pytest.raises((UsageError, ModelError, CheckpointError), match=words) as caught:
        train_detector(crops, replace(LITE, out=str(tmp_path / "run"), **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_networks_of_timm_train(crops: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    config = replace(LITE, backbone="timm:mobilenetv3_small_050", epochs=1, out=str(tmp_path))
    summary = train_detector(crops, config)
    assert load_checkpoint(summary.best)[1].architecture == "timm:mobilenetv3_small_050"
