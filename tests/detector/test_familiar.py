"""What is unlike the footage that the detector knows is told from what is only compressed, reduced or soft."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from torchfakes_cli.detector.familiar import strangeness
from torchfakes_cli.detector.texture import USUAL, describe
from torchfakes_cli.training.evaluate.perturb import Kind, Perturbation, Picture, perturb


def of(crop: Picture) -> float:
    return float(strangeness(describe(crop, (USUAL * len(crop)).astype(np.float32))[None])[0])


def portrait() -> Picture:
    """The astronaut's face, as a clip would have it."""
    crop = skimage.data.astronaut()[22:222, 124:324]
    return np.asarray(cv2.resize(crop, (160, 160), interpolation=cv2.INTER_AREA), np.uint8)


def damaged(kind: Kind, level: int) -> Picture:
    return perturb([portrait()], Perturbation(kind, level), np.random.default_rng(0))[0]


@pytest.mark.parametrize(
    "crop",
    [
        portrait(),
        damaged(Kind.H264, 2),
        damaged(Kind.JPEG, 3),
        damaged(Kind.RESIZE, 1),
        cv2.cvtColor(cv2.cvtColor(portrait(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    ],
    ids=["as it is", "H.264", "JPEG", "reduced", "grey"],
)
def test_a_face_in_ordinary_footage_is_familiar(crop: Picture) -> None:
    assert of(crop) < 1


@pytest.mark.parametrize(
    "crop",
    [damaged(Kind.NOISE, 2), damaged(Kind.CONTRAST, 5), np.full((160, 160, 3), 128, np.uint8)],
    ids=["noise", "faint", "flat"],
)
def test_what_footage_hardly_shows_is_not(crop: Picture) -> None:
    assert of(crop) > 1


def test_noise_is_the_stranger_the_stronger() -> None:
    found = [of(damaged(Kind.NOISE, level)) for level in range(1, 6)]
    assert found == sorted(found)


def test_faces_are_measured_one_by_one() -> None:
    crops = [portrait(), damaged(Kind.NOISE, 3)]
    described: NDArray[np.float32] = np.stack([describe(crop, (USUAL * 160).astype(np.float32)) for crop in crops])
    assert strangeness(described) == pytest.approx([of(crop) for crop in crops])
    assert strangeness(described[:0]).shape == (0,)
