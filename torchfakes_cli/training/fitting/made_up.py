"""Makes of a real face what a generator of low resolution would have made of it, exactly paired with the face itself.

Swaps and animations are computed at a size of their own, enlarged to the picture's and sharpened, by a restorer of
faces or by the generator's own last layers: the finest detail is missing, and what is a little coarser is too strong.
That is the same whoever's network did it, so that it tells of kinds of fakes which no training crop is of.
"""

from __future__ import annotations

import cv2
import numpy as np

from torchfakes_cli.training.fitting.augment import Augmentation
from torchfakes_cli.training.fitting.masks import blending_mask
from torchfakes_cli.training.fitting.self_blend import Picture, Portrait, blend, coarsened, sharpened

#: What is made up: the whole picture, as animations are; a part of the face, as swaps are.
FAMILIES = ("whole", "face")
#: Sides in pixels between which crops are reduced first, if they are larger: those of faces in clips.
SIDES = (104, 340)
#: How many times smaller generators work, at least and at most.
_SHRINKS = (1.25, 3.0)
#: How much more is sharpened than self-blending does.
_SHARPENING = 1.3


def made_up_pairs(portrait: Portrait, rng: np.random.Generator) -> tuple[Portrait, dict[str, Picture]]:
    """Make fakes of a real face.

    Args:
        portrait: the real face.
        rng: decides everything.

    Returns:
        The real face as it is to be compared, reduced and encoded like the fakes; and the fakes, by family.
    """
    base = _reduced(portrait, round(float(np.exp(rng.uniform(*np.log(SIDES))))))
    side = base.pixels.shape[0]
    encoding = _encoding(rng)
    fakes = {}
    for family in FAMILIES:
        fake = sharpened(coarsened(base.pixels, rng, _SHRINKS), rng, _SHARPENING)
        if family == "face":
            fake = blend(base.pixels, fake, blending_mask(side, base.landmarks, rng))
        fakes[family] = encoding.apply(fake, side)
    return Portrait(encoding.apply(base.pixels, side), base.landmarks), fakes


def _reduced(portrait: Portrait, side: int) -> Portrait:
    """The portrait at this side, unless it is smaller already."""
    old = portrait.pixels.shape[0]
    if old <= side:
        return portrait
    small = cv2.resize(portrait.pixels, (side, side), interpolation=cv2.INTER_AREA)
    return Portrait(np.asarray(small, np.uint8), portrait.landmarks * (side / old))


def _encoding(rng: np.random.Generator) -> Augmentation:
    """The last step, which a real picture and a fake share: a fifth as they are, a quarter JPEG, the rest H.264."""
    chance = rng.random()
    return Augmentation(
        shrink=rng.uniform(1.1, 2.0) if rng.random() < 0.25 else 1.0,
        jpeg=int(rng.integers(55, 96)) if 0.2 <= chance < 0.45 else 0,
        h264=int(rng.integers(18, 33)) if chance >= 0.45 else 0,
    )
