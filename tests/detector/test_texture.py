"""What the texture of a face says, and how it stands beside the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.portraits import scene
from torchfakes_cli.detector import Header, load_checkpoint, load_detector, load_heat_maps, save_checkpoint
from torchfakes_cli.detector.network import build_network, portable_state
from torchfakes_cli.detector.spreads import Spreads
from torchfakes_cli.detector.texture import (
    LENGTH,
    SHAPE,
    STRENGTHS,
    TIED_SHAPE,
    USUAL,
    Texture,
    describe,
    split_texture,
)
from torchfakes_cli.errors import CheckpointError

SIDE = 200
#: Eyes, nose and corners of the mouth of ``portrait``.
LANDMARKS = np.array([(77, 88), (125, 88), (102, 110), (81, 135), (121, 135)], np.float32)


def portrait(grain: float = 4.0) -> np.ndarray:
    face = scene((SIDE, SIDE), (SIDE / 2, SIDE / 2), SIDE * 0.68)
    noise = np.random.default_rng(0).normal(0, grain, face.shape)
    return np.clip(face + noise, 0, 255).astype(np.uint8)


def texture(seed: int = 0, network_weight: float = 0.5, length: int = LENGTH) -> Texture:
    rng = np.random.default_rng(seed)
    owned = np.array([(1, 0), (0, 1), (1, 0)], np.float32)
    own = rng.normal(0, 0.02, (2, length)), rng.normal(0, 1, (3, 2))
    return Texture(
        directions=rng.normal(0, 0.05, (3, length)).astype(np.float32),
        offsets=rng.normal(0, 1, 3).astype(np.float32),
        typical=np.full(length, -1.0, np.float32),
        fakes=1,
        network_weight=network_weight,
        spreads=Spreads(*(part.astype(np.float32) for part in own), owned),
    )


@pytest.fixture(scope="module")
def textured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("textured") / "textured.safetensors"
    save_checkpoint(path, portable_state(build_network()) | texture().tensors(), Header(name="textured"))
    return path


def bands(described: np.ndarray) -> np.ndarray:
    """The mean of each band of detail in brightness."""
    return described[:STRENGTHS].reshape(SHAPE)[..., 0].mean((1, 2))


def test_a_mirror_image_is_the_same_face() -> None:
    mirrored = (LANDMARKS * (-1, 1) + (SIDE - 1, 0))[[1, 0, 2, 4, 3]].astype(np.float32)
    seen, unseen = describe(portrait(), LANDMARKS), describe(portrait()[:, ::-1].copy(), mirrored)
    assert np.abs(seen - unseen).mean() < 0.05 < np.ptp(seen)


@pytest.mark.parametrize(("turn", "scale", "apart"), [(20, 1.0, 0.25), (-35, 0.9, 0.3), (0, 2.0, 0.4)])
def test_a_face_is_measured_upright(turn: float, scale: float, apart: float) -> None:
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), turn, 1.0)
    turned = cv2.warpAffine(portrait(), matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    size = round(SIDE * scale)
    resized = cv2.resize(turned, (size, size), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    points = (np.c_[LANDMARKS, np.ones(5)] @ matrix.T * scale).astype(np.float32)
    rest = slice(STRENGTHS // 4, STRENGTHS)  # resampling itself takes from the finest band
    seen, moved = describe(portrait(0), LANDMARKS)[rest], describe(resized, points)[rest]
    assert np.abs(seen - moved).mean() < apart
    assert np.corrcoef(seen, moved)[0, 1] > 0.9


def test_blur_takes_fine_detail_and_leaves_coarse() -> None:
    sharp = bands(describe(portrait(), LANDMARKS))
    soft = bands(describe(cv2.GaussianBlur(portrait(), (0, 0), 1.0), LANDMARKS))
    assert (sharp - soft)[0] > 0.5
    assert abs(sharp - soft)[-1] < 0.1


def test_grain_on_one_cheek_is_found_there() -> None:
    grainy = portrait(0).astype(np.float32)
    cheek = (slice(115, 130), slice(70, 85))
    grainy[cheek] += np.random.default_rng(1).normal(0, 12, grainy[cheek].shape)
    more = describe(grainy.clip(0, 255).astype(np.uint8), LANDMARKS) - describe(portrait(0), LANDMARKS)
    finest = more[:STRENGTHS].reshape(SHAPE)[0, ..., 0]
    row, column = np.unravel_index(finest.argmax(), finest.shape)
    # Left of the nose, between the eyes and the mouth.
    assert (row, column) in {(row, column) for row in range(8, 11) for column in range(5, 8)}
    assert finest.max() > 0.1 > 5 * np.abs(finest).mean()


def beside(picture: np.ndarray) -> float:
    """How much the finest detail in brightness depends on the pixels beside and diagonal, over all places."""
    return float(describe(picture, LANDMARKS)[STRENGTHS:].reshape(TIED_SHAPE)[:3, ..., 0].mean())


def test_enlarged_detail_depends_on_its_neighbours_whatever_the_contrast() -> None:
    half = cv2.resize(portrait(12), (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(half, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    faint = (portrait(12) // 2 + 64).astype(np.uint8)
    assert abs(beside(faint) - beside(portrait(12))) < abs(beside(enlarged) - beside(portrait(12))) / 4


@pytest.mark.parametrize(
    "landmarks",
    [np.full((5, 2), 50.0), np.full((5, 2), np.nan), USUAL * 1e9, -USUAL * 1e9, np.zeros((5, 2)), USUAL * 1e-6],
)
@pytest.mark.parametrize("size", [(200, 200), (1, 1), (3, 500)])
def test_any_landmarks_and_any_crop_give_numbers(landmarks: np.ndarray, size: tuple[int, int]) -> None:
    crop = cv2.resize(portrait(), size)
    assert np.isfinite(describe(crop, landmarks.astype(np.float32))).all()


def test_a_detector_joins_the_network_and_the_texture(textured: Path) -> None:
    detector = load_detector(textured, "cpu")
    crops, places = [portrait(), portrait(15)[:180, :180]], [LANDMARKS, LANDMARKS + 3]
    described = np.stack([describe(crop, points) for crop, points in zip(crops, places, strict=True)])
    expected = 0.5 * detector.network_logits(crops) + texture().logits(described)
    assert detector.score(crops, places) == pytest.approx(expected, abs=1e-3)
    assert abs(detector.score(crops, places) - detector.network_logits(crops)).min() > 0.1
    assert detector.score([]).shape == (0,)


def test_without_landmarks_a_face_lies_where_faces_usually_do(textured: Path) -> None:
    detector, crop = load_detector(textured, "cpu"), portrait()
    assert detector.score([crop]) == pytest.approx(detector.score([crop], [USUAL * SIDE]))
    assert detector.score([crop]) != pytest.approx(detector.score([crop], [LANDMARKS]), abs=1e-3)


def test_likelier_fake_kinds_make_the_logit_positive() -> None:
    none = np.zeros((3, LENGTH), np.float32)
    judge = Texture(none, np.array([0, 1, 3], np.float32), none[0], 1, 1.0, Spreads.none(3, LENGTH))
    ratio = 3 - np.log(1 + np.e)
    assert judge.logits(np.zeros((2, LENGTH), np.float32)) == pytest.approx([ratio, ratio], abs=1e-6)


def test_strengths_alone_are_judged_by_checkpoints_that_know_no_more() -> None:
    older = split_texture(texture(length=STRENGTHS).tensors())[1]
    assert older is not None
    described = describe(portrait(), LANDMARKS)
    assert older.logits(described[None]) == pytest.approx(older.logits(described[None, :STRENGTHS]))


def test_descriptions_may_be_read_only_or_lie_backwards_in_memory() -> None:
    judge = texture()
    described = np.stack([describe(portrait(grain), LANDMARKS) for grain in (0, 4, 15)])
    expected = judge.logits(described)
    locked = described.copy()
    locked.flags.writeable = False
    assert judge.logits(locked) == pytest.approx(expected)
    assert judge.logits(described[::-1])[::-1] == pytest.approx(expected, abs=1e-5)


def test_what_a_kind_varies_in_speaks_less_against_it() -> None:
    """As in normal densities with covariances of their own, here of two kinds with the same centre."""
    one = np.zeros(LENGTH, np.float32)
    one[0] = 1
    variance = 4.0
    own = np.float32(np.sqrt(1 - 1 / variance)) * one
    none = np.zeros((2, LENGTH), np.float32)
    spreads = Spreads(own[None], np.zeros((2, 1), np.float32), np.array([[0], [1]], np.float32))
    judge = Texture(none, np.array([0, -np.log(variance) / 2], np.float32), none[0], 1, 1.0, spreads)
    steps = np.linspace(-3, 3, 7)
    expected = -np.log(variance) / 2 + steps**2 / 2 - steps**2 / 2 / variance
    assert judge.logits(steps[:, None].astype(np.float32) * one) == pytest.approx(expected, abs=1e-5)


def test_a_texture_comes_back_as_it_was_written() -> None:
    described, written = describe(portrait(), LANDMARKS)[None], texture()
    for some in (written, replace(written, spreads=Spreads.none(3, LENGTH))):
        for dtype, apart in ((torch.float32, 1e-5), (torch.float16, 0.02)):
            read = split_texture({name: tensor.to(dtype) for name, tensor in some.tensors().items()})[1]
            assert read is not None
            assert read.logits(described) == pytest.approx(some.logits(described), abs=apart)
    plain = replace(written, spreads=Spreads.none(3, LENGTH)).logits(described)
    assert written.logits(described) != pytest.approx(plain)


@pytest.mark.parametrize("length", [STRENGTHS, LENGTH])
def test_what_places_add_sums_to_the_step_from_a_typical_face(length: int) -> None:
    judge = texture(length=length)
    # Margins around the crop, so that every place of the upright face lies in it.
    wide = cv2.copyMakeBorder(portrait(), 100, 100, 100, 100, cv2.BORDER_REFLECT)
    described = describe(wide, LANDMARKS + 100)[:length]
    typical = described - np.float32(0.01)
    moved = judge.spreads.directions @ (judge.typical - typical)
    near = replace(judge, typical=typical, spreads=replace(judge.spreads, centres=judge.spreads.centres + moved))
    step = float(judge.logits(described[None])[0] - judge.logits(near.typical[None])[0])
    shares = near.shares(wide, LANDMARKS + 100)
    assert shares.shape == wide.shape[:2]
    assert float(shares.sum()) == pytest.approx(step, rel=0.1)


def test_heat_shows_the_network_and_the_texture(textured: Path) -> None:
    maps = load_heat_maps(textured, "cpu")
    fake, real = maps(portrait(), LANDMARKS)
    assert fake.shape == real.shape == (160, 160)
    assert fake.sum() == pytest.approx(1, abs=1e-4)
    assert real.sum() == pytest.approx(1, abs=1e-4)
    elsewhere, _ = maps(portrait(), LANDMARKS + 20)
    assert np.abs(fake - elsewhere).sum() > 0.1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("directions", np.zeros((2, LENGTH)), "don't fit one another"),
        ("typical", np.zeros(5), "describes a face with 5 values"),
        ("typical", np.zeros(STRENGTHS), "don't fit one another"),
        ("offsets", np.array([0, np.nan, 0]), "not finite"),
        ("joining", np.array([3, 1.0]), "no real or no fake kinds"),
        ("joining", np.array([0, 1.0]), "no real or no fake kinds"),
        ("joining", np.array([1, -1.0]), "no real or no fake kinds"),
        ("surplus", np.zeros(1), "has the parts"),
        ("spreads.directions", np.zeros(2), "don't fit one another"),
        ("spreads.directions", np.zeros((2, STRENGTHS)), "don't fit one another"),
        ("spreads.centres", np.zeros((3, 3)), "don't fit one another"),
        ("spreads.owned", np.full((3, 2), np.inf), "not finite"),
    ],
)
def test_a_texture_that_makes_no_sense_is_refused(name: str, value: np.ndarray, message: str) -> None:
    state = texture().tensors() | {f"texture.{name}": torch.from_numpy(value)}
    with pytest.raises(CheckpointError, match=message):
        split_texture(state, "x.safetensors")


def test_a_checkpoint_of_the_network_alone_has_no_texture(tmp_path: Path) -> None:
    state = portable_state(build_network())
    save_checkpoint(tmp_path / "plain.safetensors", state, Header(name="plain"))
    loaded, _ = load_checkpoint(tmp_path / "plain.safetensors")
    assert split_texture(loaded)[1] is None
    assert load_detector(tmp_path / "plain.safetensors", "cpu").texture is None
