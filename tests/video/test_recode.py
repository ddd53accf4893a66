import numpy as np
import pytest

from tests.portraits import portrait
from torchfakes_cli.video.encode import h264_round_trip


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize(("height", "width"), [(160, 160), (161, 95), (33, 64)])
def test_pictures_of_any_size_come_back_alike(height: int, width: int) -> None:
    picture = portrait()[60 : 60 + height, 150 : 150 + width]
    (back,) = h264_round_trip([picture], 18)
    assert back.shape == picture.shape
    assert _difference(picture, back) < 5


def test_stronger_compression_loses_more() -> None:
    picture = portrait()[20:212, 130:322]
    losses = [_difference(picture, h264_round_trip([picture], crf)[0]) for crf in (10, 23, 32, 40, 51)]
    assert losses == sorted(losses)
    assert losses[-1] > 2 * losses[0]


def test_frames_of_a_clip_keep_their_order() -> None:
    clip = [np.full((64, 64, 3), level, np.uint8) for level in (10, 80, 150, 220)]
    back = h264_round_trip(clip, 23)
    assert [round(float(frame.mean()) / 10) for frame in back] == [1, 8, 15, 22]


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_quality_out_of_range_is_refused(crf: int) -> None:
    with pytest.raises(ValueError, match="CRF"):
        h264_round_trip([np.zeros((64, 64, 3), np.uint8)], crf)


def test_pictures_of_several_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        h264_round_trip([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)], 23)
