"""Shares of heat by region: they add up, and each person counts the same."""

from __future__ import annotations

import numpy as np
import pytest

from torchfakes_cli.faces.regions import LANDMARKS, REGIONS
from torchfakes_cli.records import FaceScore, RegionShare, TellingFace
from torchfakes_cli.scan.explain import average_over_tracks, region_shares

SIDE = 100
#: On a picture of twice the maps' size.
ON_PICTURE = tuple((float(x), float(y)) for x, y in LANDMARKS * 50 + (100, 75))
EVEN = np.full((SIDE, SIDE), SIDE**-2, np.float32)


def face(heat_fake: np.ndarray, track: int = 1) -> TellingFace:
    picture = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    row = FaceScore(0.0, 0, track, logit=1.0, p_fake=0.7)
    return TellingFace(row, picture, ON_PICTURE, heat_fake, np.zeros_like(heat_fake))


def test_heat_on_the_mouth_is_the_mouths() -> None:
    x, y = ((np.array(ON_PICTURE[3]) + ON_PICTURE[4]) / 4).round().astype(int)
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[y - 1 : y + 2, x - 1 : x + 2] = 1 / 9
    shares = {share.region: share for share in region_shares(face(heat))}
    assert shares["mouth"].fake == pytest.approx(1)
    assert all(share.real is None for share in shares.values())
    assert sum(share.area for share in shares.values()) == pytest.approx(1, abs=1e-4)


def test_an_even_map_falls_on_each_region_by_its_area() -> None:
    for share in region_shares(face(EVEN)):
        assert share.fake == pytest.approx(share.area)
    assert [share.region for share in region_shares(face(EVEN))] == list(REGIONS)


def test_people_count_the_same_however_many_faces_they_have() -> None:
    shares = [(RegionShare("eyes", 0.1, fake, None),) for fake in (0.2, 0.4, None, 0.9)]
    faces = [face(EVEN, track) for track in (1, 1, 1, 2)]
    (eyes,) = average_over_tracks(faces, shares)
    assert (eyes.fake, eyes.real) == (pytest.approx(0.6), None)
    assert average_over_tracks([], []) == ()
