"""Regions of a face lie where an eye would look for them."""

from __future__ import annotations

import numpy as np
import pytest

from torchfakes_cli.faces.regions import LANDMARKS, REGIONS, face_regions

MEAN_FACE = [(float(x), float(y)) for x, y in LANDMARKS * 40 + (100, 80)]


def region_at(regions: np.ndarray, x: float, y: float) -> str:
    return REGIONS[regions[round(y), round(x)]]


def test_every_region_is_where_the_landmarks_say() -> None:
    regions = face_regions((200, 200), MEAN_FACE)
    (left_eye, right_eye, nose, *corners), chin = MEAN_FACE, (100.0, 80 + 1.55 * 40)
    assert region_at(regions, *left_eye) == region_at(regions, *right_eye) == "eyes"
    assert region_at(regions, *nose) == "nose"
    assert {region_at(regions, x * 0.9 + 10, y) for x, y in corners} == {"mouth"}
    assert region_at(regions, *chin) == "chin"
    assert region_at(regions, 100 - 30, 80 + 30) == region_at(regions, 100 + 30, 80 + 30) == "cheeks"
    assert region_at(regions, 100, 80 - 30) == "forehead"
    assert region_at(regions, 5, 5) == region_at(regions, 100, 195) == "outside"
    assert set(np.unique(regions)) == set(range(len(REGIONS)))


def test_regions_follow_the_face_and_are_symmetric() -> None:
    regions = face_regions((200, 200), MEAN_FACE)
    larger = face_regions((400, 400), [(2 * x, 2 * y) for x, y in MEAN_FACE])
    shares = [np.bincount(found.ravel(), minlength=len(REGIONS)) / found.size for found in (regions, larger)]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    assert np.mean(regions[:, 1:] != regions[:, :0:-1]) < 0.02


def test_a_face_at_the_border_is_cut_by_it() -> None:
    regions = face_regions((200, 200), [(x + 100, y) for x, y in MEAN_FACE])
    assert region_at(regions, 195, 110) in ("nose", "cheeks", "mouth")
    assert region_at(regions, 20, 100) == "outside"
