"""Scores computed in 8 bits are those of float32, and are used only where that is known."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.detector.test_scoring import faces
from torchfakes_cli.detector import Header, load_detector, save_checkpoint
from torchfakes_cli.detector.checkpoint import load_checkpoint
from torchfakes_cli.detector.eight_bit import EightBitNetwork, eight_bit_instructions, highest_activations
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import blank_network, build_network, fold_batch_norm, load_weights, portable_state
from torchfakes_cli.detector.preprocess import to_input
from torchfakes_cli.detector.registry import shipped_checkpoint
from torchfakes_cli.detector.scoring import TOLERANCE, Detector, eight_bits_suffice
from torchfakes_cli.detector.texture import USUAL, describe, split_texture
from torchfakes_cli.errors import CheckpointError

needs_instructions = pytest.mark.skipif(
    not eight_bit_instructions(), reason="this processor, or this PyTorch, has nothing to multiply 8-bit numbers with"
)


@pytest.fixture(scope="module")
def shipped() -> tuple[InceptionResnetV1, Header]:
    """The network that ships, with batch norm apart, and its header."""
    state, header = load_checkpoint(shipped_checkpoint())
    network = blank_network()
    assert isinstance(network, InceptionResnetV1)
    load_weights(network, split_texture(state)[0])
    return network, header


@needs_instructions
@pytest.mark.parametrize("size", [160, 75, 224])
def test_the_processor_computes_what_float32_does_with_the_same_rounding(
    shipped: tuple[InceptionResnetV1, Header], size: int
) -> None:
    network = shipped[0]
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    crops = [*faces(3), noise, np.full_like(noise, 200)]  # logits far apart
    inputs = to_input(crops, size).contiguous(memory_format=torch.channels_last)
    highest = highest_activations(network, [inputs])
    folded = fold_batch_norm(copy.deepcopy(network))
    assert isinstance(folded, InceptionResnetV1)
    with torch.inference_mode():
        plain = folded(inputs)
        real, simulated = (EightBitNetwork(folded, highest, size, real=real)(inputs) for real in (True, False))
    assert real.numpy() == pytest.approx(simulated.numpy(), abs=0.01)
    assert real.numpy() == pytest.approx(plain.numpy(), abs=0.05)
    assert np.ptp(plain.numpy()) > 1


@needs_instructions
def test_the_detector_that_ships_computes_in_8_bits_within_its_tolerance(
    shipped: tuple[InceptionResnetV1, Header],
) -> None:
    detector, crops = load_detector(device="cpu"), faces(6)
    assert detector.precision == "int8"
    assert detector.texture is not None
    plain = Detector(copy.deepcopy(shipped[0]), shipped[1], torch.device("cpu"), torch.float32)
    described = np.stack([describe(crop, USUAL * crop.shape[1]) for crop in crops])
    expected = [detector.probability(x) for x in detector.texture.joined(plain.score(crops), described).tolist()]
    assert plain.precision == "float32"
    assert [detector.probability(x) for x in detector.score(crops).tolist()] == pytest.approx(expected, abs=TOLERANCE)


def test_8_bits_are_only_used_where_they_were_measured_and_change_little() -> None:
    measured = Header(name="n", slope=1.0, eight_bit={"highest": {}, "change": 0.03})
    assert eight_bits_suffice(measured, None)
    assert not eight_bits_suffice(replace(measured, eight_bit={}), None)
    assert not eight_bits_suffice(replace(measured, slope=2.0), None)


@needs_instructions
def test_activations_of_another_network_are_refused(tmp_path: Path) -> None:
    header = Header(name="n", eight_bit={"highest": {"conv2d_1a": 3.0}, "change": 0.0})
    save_checkpoint(tmp_path / "n.safetensors", portable_state(build_network()), header)
    with pytest.raises(CheckpointError, match="conv2d_2a"):
        load_detector(tmp_path / "n.safetensors", "cpu")


def test_who_has_the_network_alone_has_no_8_bits() -> None:
    header = load_checkpoint(shipped_checkpoint())[1]
    assert header.eight_bit
    assert header.of_network().eight_bit == {}
