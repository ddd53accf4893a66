"""Weights from elsewhere score as their makers meant, and what isn't such weights is refused with the reason."""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from facenet_pytorch.models.utils.detect_face import extract_face
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tests.portraits import FACE_CENTER, portrait
from tests.torture import Canaries, all_cases, write_case
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.detector import Detector, load_detector
from torchfakes_cli.detector.import_weights import import_weights, input_mean, input_range
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.preprocess import MEAN, SCALE
from torchfakes_cli.errors import CheckpointError, ModelNotFoundError, OutputError, UsageError
from torchfakes_cli.faces.crops import crop_face

BOX = (FACE_CENTER[0] - 88.6, FACE_CENTER[1] - 111.3, FACE_CENTER[0] + 87.2, FACE_CENTER[1] + 104.8)


def network_trained_on(mean: float, scale: float) -> InceptionResnetV1:
    """facenet-pytorch's network with one logit that has seen faces as (x − mean) / scale."""
    torch.manual_seed(4)
    network = InceptionResnetV1(classify=True, num_classes=1).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.momentum = None  # a plain mean, which needs no long training
    face = torch.from_numpy(portrait().copy()).permute(2, 0, 1)[None].float()
    light = torch.tensor([0.9, 1.2, 1.4, 1.1])[:, None, None, None]
    pictures = ((functional.interpolate(face, (96, 96), mode="bilinear") * light).clip(0, 255) - mean) / scale
    with torch.no_grad():
        network(pictures)
        network(pictures.flip(3))
        network.logits.weight.mul_(5)
    return network.half().float().eval()  # what half precision keeps, as the file is stored


@pytest.fixture(scope="module")
def author_network() -> InceptionResnetV1:
    """The network as the origin's authors trained it: on values from 0 to 1."""
    return network_trained_on(0, 255)


@pytest.fixture(scope="module")
def origin_file(author_network: InceptionResnetV1, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("origin") / "resnetinceptionv1_epoch_32.pth"
    whole = author_network.state_dict()
    state = {name: value.half() if value.is_floating_point() else value for name, value in whole.items()}
    optimizer = torch.optim.Adam(author_network.logits.parameters()).state_dict()
    torch.save({"epoch": 32, "model_state_dict": state, "optimizer_state_dict": optimizer, "loss": 0.16}, path)
    return path


def author_logit(network: InceptionResnetV1, image: Any) -> float:
    """As the authors score a picture whose face MTCNN found at ``BOX``."""
    face = extract_face(image, np.array(BOX), image_size=160)
    face = functional.interpolate(face[None], size=(256, 256), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        return float(network(face.float() / 255))


@pytest.mark.slow
def test_the_origins_weights_score_as_their_authors_meant(
    author_network: InceptionResnetV1, origin_file: Path, own_models: Path
) -> None:
    made = import_weights(origin_file, "origin")
    assert made.path == own_models / "origin.safetensors"
    assert "origin" in made.notes[0]
    assert any("not calibrated" in note for note in made.notes)
    assert made.doubts == ()
    state, header = load_checkpoint(made.path)
    detector = load_detector("origin", "cpu")
    assert (detector.name, detector.crop_shape, detector.margin) == ("origin", "box", 1.0)
    assert detector.probability(0.3) == pytest.approx(1 / (1 + math.exp(-0.3)))
    assert (detector.fake_above, detector.real_below) == (0.5, 0.5)
    network = build_network().eval()
    network.load_state_dict({**network.state_dict(), **{name: value.float() for name, value in state.items()}})
    exact = Detector(network, header, torch.device("cpu"), torch.float32)
    crop = crop_face(portrait(), BOX, exact.margin, exact.crop_shape)
    meant = author_logit(author_network, portrait())
    assert exact.score([crop])[0] == pytest.approx(meant, abs=1e-3)
    # Their page opens pictures with Pillow, which shrinks by other weights.
    assert exact.score([crop])[0] == pytest.approx(author_logit(author_network, Image.fromarray(portrait())), abs=0.15)
    square = exact.score([crop_face(portrait(), BOX, 1.3)])[0]
    assert abs(square - meant) > 0.2, "the preprocessing makes a difference here"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: value.half() for name, value in portable_state(build_network()).items()}


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize(
    "form",
    [
        "nested, from parallel training",
        *(pytest.param(form, marks=pytest.mark.slow) for form in ("plain", "safetensors", "before zip")),
    ],
)
def test_a_compatible_state_is_taken_in_whatever_it_is_wrapped_in(
    tmp_path: Path, state: dict[str, Tensor], form: str
) -> None:
    path = tmp_path / "weights.pth"
    if form == "plain":
        torch.save(state, path)
    elif form == "safetensors":
        save_file(state, path)
    elif form == "before zip":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    made = import_weights(path, preset="standardised", changes={"margin": 1.5}, licence="MIT")
    loaded, header = load_checkpoint(made.path)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert (header.name, header.margin, header.licence, header.input_size) == ("weights", 1.5, "MIT", 160)
    assert header.training["source"]["file"] == "weights.pth"


def test_weights_remember_the_range_they_were_trained_on(author_network: InceptionResnetV1) -> None:
    assert input_range(portable_state(author_network)) == "unit"
    assert input_range(portable_state(build_network())) == "", "never trained"
    standardised = portable_state(network_trained_on(MEAN, SCALE))
    assert input_range(standardised) == "standardised"
    mean, unexplained = input_mean(standardised)
    assert -0.6 < mean < 0.23
    assert unexplained < 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("own_models")
def test_settings_that_the_weights_contradict_are_doubted(origin_file: Path) -> None:
    made = import_weights(origin_file, "mine", preset="standardised")
    assert "values from 0 to 1" in made.doubts[0]


def test_a_checkpoint_of_ours_keeps_its_header(tmp_path: Path, state: dict[str, Tensor], own_models: Path) -> None:
    header = Header(name="theirs", slope=2.0, calibrated_on="something", fake_above=0.8, real_below=0.1)
    save_checkpoint(tmp_path / "c.safetensors", state, header, torch.float16)
    assert import_weights(tmp_path / "c.safetensors").header == header
    with pytest.raises(OutputError, match="--force"):
        import_weights(tmp_path / "c.safetensors")
    assert [path.name for path in sorted(own_models.iterdir())] == ["c.safetensors", "c.safetensors.sha256"]


@pytest.mark.usefixtures("own_models")
def test_a_preprocessing_that_makes_no_sense_is_wrong_usage(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="input_size"):
        import_weights(tmp_path / "w.pth", changes={"input_size": 9})
    with pytest.raises(UsageError, match="crop_size"):
        import_weights(tmp_path / "w.pth", changes={"crop_size": 300})


HOSTILE = [
    case.name for case in all_cases() if case.category == "checkpoints" and case.name != "l_checkpoints/zip_bomb.pt"
]
REASONS = {
    "evil_pickle": "could run code",
    "evil_zip": "could run code",
    "evil_legacy": "could run code",
    "evil_whole_module": "could run code",
    "evil_torchscript": "TorchScript",
    "good_tiny": r"missing \(.*unknown \(bias, weight\)",
    "truncated": "cut short",
    "nan_weights": r"missing .*unknown \(bias, weight\)",
    "wrong_arch": r"missing .*unknown \(conv1.weight, fc.bias\)",
    "huge_claim": r"unknown \(w\)",
    "empty": "no file of weights",
    "text": "no file of weights",
    "huge_header": "no file of weights",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_payload_runs_and_the_refusal_is_short(name: str, tmp_path: Path, own_models: Path) -> None:
    canaries = Canaries(9, tmp_path / "payload")
    (case,) = [case for case in all_cases() if case.name == name]
    path = write_case(case, tmp_path / "set", canaries)
    with pytest.raises(CheckpointError, match=REASONS[path.stem]) as caught:
        import_weights(path, "evil")
    assert_short(str(caught.value), path)
    assert list(tmp_path.glob("payload*")) == []
    assert not own_models.exists()


def assert_short(message: str, path: Path) -> None:
    assert "\n" not in message
    assert len(message.replace(str(path), "")) < 400
    for unsafe in ("weights_only", "add_safe_globals", "trusted", "False"):
        assert unsafe not in message


def repacked(path: Path, target: Path, compression: int = zipfile.ZIP_STORED, claim: int = 0) -> Path:
    """The same archive with its records compressed, or with one that claims more bytes than there are."""
    with zipfile.ZipFile(path) as sound, zipfile.ZipFile(target, "w", compression) as new:
        for record in sound.infolist():
            new.writestr(record.filename, sound.read(record.filename))
    if claim:
        data = bytearray(target.read_bytes())
        central = data.index(b"PK\x01\x02")
        data[central + 24 : central + 28] = claim.to_bytes(4, "little")
        target.write_bytes(data)
    return target


@pytest.mark.usefixtures("own_models")
def test_archives_that_pytorch_would_not_write_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "w.pth")
    packed = repacked(tmp_path / "w.pth", tmp_path / "packed.pth", zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        import_weights(packed)
    claiming = repacked(tmp_path / "w.pth", tmp_path / "claiming.pth", claim=1 << 31)
    with pytest.raises(CheckpointError, match="claim"):
        import_weights(claiming)
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as other:
        other.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="no file of weights"):
        import_weights(tmp_path / "other.pth")


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize("defect", ["missing", "classes", "nan", "integer", "sparse", "huge", "negative variance"])
def test_weights_that_do_not_fit_are_refused_with_the_reason(
    tmp_path: Path, state: dict[str, Tensor], defect: str
) -> None:
    broken, name = dict(state), "conv2d_1a.conv.weight"
    if defect == "missing":
        del broken[name]
    elif defect == "classes":
        name = "logits.weight"
        broken[name] = torch.zeros(8631, 512, dtype=torch.float16)
    elif defect == "nan":
        broken[name] = torch.full_like(broken[name], float("nan"))
    elif defect == "integer":
        broken[name] = torch.zeros_like(broken[name], dtype=torch.int32)
    elif defect == "sparse":
        broken[name] = torch.zeros(32, 3, 3, 3).to_sparse()
    elif defect == "huge":
        broken[name] = torch.zeros(1).expand(100_000_000_000)
    else:
        name = "conv2d_1a.bn.running_var"
        broken[name] = -torch.ones(32, dtype=torch.float16)
    torch.save({"model_state_dict": broken}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=re.escape(name)) as caught:
        import_weights(tmp_path / "w.pth")
    assert_short(str(caught.value), tmp_path / "w.pth")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3)])
def test_a_file_without_a_table_of_weights_says_what_it_holds(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="table of weights"):
        import_weights(tmp_path / "w.pth")


def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        import_weights(tmp_path / "w.pth")
