"""Crops keep proportions and positions; sharpness ranks faces as an eye would."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.portraits import FACE_CENTER, portrait
from torchfakes_cli.faces.crops import crop_corner, crop_face, crop_origin, sharpness

FACE_BOX = (FACE_CENTER[0] - 45, FACE_CENTER[1] - 55, FACE_CENTER[0] + 45, FACE_CENTER[1] + 55)


def numbered_pixels(width: int, height: int) -> np.ndarray:
    """Every pixel holds its own column and row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 255)], 2).astype(np.uint8)


@given(
    x=st.floats(-60, 200), y=st.floats(-60, 140), width=st.floats(2, 90), height=st.floats(2, 90),
    margin=st.floats(0.5, 3),
)  # fmt: skip
def test_every_pixel_of_a_crop_is_the_frames_own_or_black(
    x: float, y: float, width: float, height: float, margin: float
) -> None:
    frame = numbered_pixels(160, 100)
    box = (x, y, x + width, y + height)
    left, top, side = crop_origin(box, margin)
    crop = crop_face(frame, box, margin)
    assert crop.shape == (side, side, 3)
    assert side == max(1, round(max(box[2] - box[0], box[3] - box[1]) * margin))
    rows, columns = np.mgrid[:side, :side]
    inside = (columns + left >= 0) & (columns + left < 160) & (rows + top >= 0) & (rows + top < 100)
    assert np.array_equal(crop[inside][:, 0], (columns + left)[inside])
    assert np.array_equal(crop[inside][:, 1], (rows + top)[inside])
    assert not crop[~inside].any()


def test_a_crop_does_not_keep_its_frame_alive() -> None:
    frame = numbered_pixels(160, 100)
    assert crop_face(frame, (10, 10, 50, 50), 1.0).base is None


def test_the_crop_is_centerd_on_the_face() -> None:
    assert crop_origin((100, 100, 140, 180), 1.5) == (60, 80, 120)


def test_blur_lowers_sharpness_step_by_step() -> None:
    face = crop_face(portrait(), FACE_BOX, 1.3)
    values = [sharpness(np.asarray(cv2.GaussianBlur(face, (0, 0), s), np.uint8)) for s in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert sharpness(face) > 30 > values[-1]


def test_a_tiny_face_enlarged_counts_as_blurry() -> None:
    face = crop_face(portrait(), FACE_BOX, 1.3)
    tiny = np.asarray(cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA), np.uint8)
    assert sharpness(tiny) < 0.25 * sharpness(face)


def test_a_flat_picture_has_no_sharpness() -> None:
    assert sharpness(np.full((50, 50, 3), 128, np.uint8)) == 0


def test_size_alone_hardly_changes_sharpness() -> None:
    face = crop_face(portrait(), FACE_BOX, 1.3)
    large = np.asarray(cv2.resize(face, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.uint8)
    assert sharpness(large) == pytest.approx(sharpness(face), rel=0.5)


@given(x=st.floats(-60, 200), y=st.floats(-60, 140), width=st.floats(2, 90), height=st.floats(2, 90))
def test_a_crop_in_the_boxs_shape_is_cut_as_facenet_pytorch_cuts_it(
    x: float, y: float, width: float, height: float
) -> None:
    frame = numbered_pixels(160, 100)
    crop = crop_face(frame, (x, y, x + width, y + height), 1.0, "box")
    left, top = int(max(x, 0)), int(max(y, 0))
    right, bottom = int(min(x + width, 160)), int(min(y + height, 100))
    if left < right and top < bottom:
        assert np.array_equal(crop, frame[top:bottom, left:right])
        assert crop_corner((160, 100), (x, y, x + width, y + height), 1.0, "box") == (left, top)
    assert crop.size
