"""Pictures of people for the tests of scanning: one as the camera saw her, one with red and blue swapped."""

from __future__ import annotations

from functools import cache

import numpy as np

from tests.portraits import Pixels, scene

SIZE = (640, 360)


@cache
def natural() -> Pixels:
    """360×640×3 RGB with a face of natural colors on the left."""
    return scene(SIZE, (160.0, 180.0), 110.0)


@cache
def swapped() -> Pixels:
    """360×640×3 RGB with a blue face on the right."""
    return np.ascontiguousarray(scene(SIZE, (480.0, 180.0), 110.0)[..., ::-1])


def two_people(*, second: bool) -> Pixels:
    """The natural face, and beside it the blue one if wanted."""
    picture = np.full_like(natural(), 90)
    picture[:, : SIZE[0] // 2] = natural()[:, : SIZE[0] // 2]
    if second:
        picture[:, SIZE[0] // 2 :] = swapped()[:, SIZE[0] // 2 :]
    return picture
