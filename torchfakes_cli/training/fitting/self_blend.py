"""Making fakes out of genuine faces: self-blended images and swaps between people.

A network that only ever sees the fakes of one generator learns that generator. Blending a slightly changed copy of a
face into itself leaves what face swaps have in common (a seam, two kinds of grain, two kinds of light), nothing else.
Built from the description in Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022),
https://arxiv.org/abs/2204.08376, with a face outline fitted to MTCNN's five landmarks in place of a landmark network,
and with a second face as the source now and then, as Li et al., "Face X-ray" (CVPR 2020) did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

# A mean face, in units of the distance between the pupils, origin between them, y down; the left half as seen in the
# picture, the right one is its mirror image. Averaged over the 142 faces with 189 landmarks in the Face Research Lab
# London Set (DeBruine and Jones 2017) and its Canadian companion (DeBruine), both CC BY 4.0, aligned by MTCNN's points.
LANDMARKS = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.53), (-0.4, 1.08), (0.4, 1.08)])
_JAW = [(-1.09, 0.07), (-1.1, 0.25), (-1.08, 0.42), (-1.06, 0.6), (-1.02, 0.82), (-0.97, 1.05), (-0.87, 1.29),
        (-0.63, 1.56), (-0.34, 1.74), (0.0, 1.81)]  # fmt: skip
_BROW = [(-0.91, -0.13), (-0.82, -0.29), (-0.66, -0.37), (-0.47, -0.36), (-0.22, -0.28)]
_FOREHEAD = [(-1.04, -0.3), (-0.95, -0.61), (-0.85, -0.92), (-0.64, -1.11), (0.0, -1.18)]
_EYE = [(-0.74, -0.03), (-0.64, -0.1), (-0.51, -0.13), (-0.38, -0.11), (-0.28, -0.05), (-0.38, 0.07), (-0.61, 0.07)]
_CHEEK = [(-0.95, 0.34), (-0.79, 0.47), (-0.58, 0.52)]
_NOSE = [(-0.28, 0.55), (-0.28, 0.64), (-0.11, -0.09)]
_MOUTH = [(-0.39, 1.08), (-0.25, 0.99), (-0.11, 0.93), (-0.28, 1.16), (-0.16, 1.21), (0.0, 1.22)]


def _both_sides(half: list[tuple[float, float]]) -> Points:
    return np.array(half + [(-x, y) for x, y in half if x])


#: Outlines that manipulations have been seen to use; a hull is drawn around each.
HULLS = {
    "face": _both_sides(_JAW + _BROW),
    "face_and_forehead": _both_sides(_JAW + _FOREHEAD),
    "inner_face": _both_sides(_BROW + _CHEEK + _MOUTH),
    "mouth_and_chin": _both_sides(_JAW[4:] + _NOSE[:2]),
    "mouth": _both_sides(_MOUTH) * (1.25, 1.15) - (0, 0.15),
    "eyes_and_nose": _both_sides(_BROW + _EYE + _NOSE),
}
_HULL_NAMES = tuple(HULLS)
_HULL_ODDS = np.array([0.32, 0.14, 0.24, 0.14, 0.06, 0.10])
#: How much of the source shows through, at its strongest.
OPACITIES = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Portrait:
    """A crop and where its face is.

    Attributes:
        pixels: S×S×3 uint8 RGB.
        landmarks: 5×2, (x, y) in pixels of the crop: eyes, nose, mouth corners.
    """

    pixels: Picture
    landmarks: Points


def self_blend(
    target: Portrait, rng: np.random.Generator, donor: Portrait | None = None, strength: float = 1.0
) -> tuple[Picture, Picture]:
    """Make a fake from a genuine face, and the genuine picture to compare it with.

    Args:
        target: whose picture it stays.
        rng: decides everything.
        donor: another person's face to put into the picture; None for the target's own.
        strength: 0 to 1, how subtle the fake may be: at 0 the source differs clearly and covers the face fully.

    Returns:
        (real, fake), both of the target's shape. The real one got the same changes of colour and grain, unless only the
        face was to differ in them.
    """
    base = target.pixels
    source = _nudged(base, rng) if donor is None else _match_colours(_carried_over(donor, target), base)
    subtle = rng.random() < strength * 0.5
    # Either side may be the coarser or the brighter one: were it always the face, softness itself would tell a fake.
    if donor is not None or rng.random() < 0.5:
        source = _refined(_restyled(source, rng, subtle), rng, subtle)
    else:
        base = _refined(_restyled(base, rng, subtle), rng, subtle)
    opacity = 1.0 if donor is not None or rng.random() > strength else float(rng.choice(OPACITIES))
    fake = blend(base, source, blending_mask(target, rng) * opacity)
    # A coloured face in a grey picture would teach nothing.
    return (_greyed(base), _greyed(fake)) if _is_grey(target.pixels) else (base, fake)


def blend(base: Picture, source: Picture, mask: NDArray[np.float32]) -> Picture:
    """The source where the mask is 1, the base where it is 0; all S×S, and S×S×3 comes back."""
    share = mask[..., None]
    mixed = source.astype(np.float32) * share + base.astype(np.float32) * (1 - share)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def blending_mask(target: Portrait, rng: np.random.Generator) -> NDArray[np.float32]:
    """A soft mask over a part of the face, S×S, 0 to 1."""
    side = target.pixels.shape[0]
    name = _HULL_NAMES[int(rng.choice(len(_HULL_NAMES), p=_HULL_ODDS))]
    outline = HULLS[name] + rng.normal(0, 0.05, HULLS[name].shape)
    outline = (outline - (0, 0.5)) * rng.uniform(0.85, 1.08, 2) + (0, 0.5)
    points = _affine_fit(LANDMARKS, target.landmarks, outline)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 255)
    soft = _elastic(mask, rng).astype(np.float32) / 255
    face = float(np.linalg.norm(target.landmarks[1] - target.landmarks[0])) + 1
    for _ in range(2):
        sigma = face * rng.uniform(0.02, 0.16)
        soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), sigma), np.float32)
        # Pulling the edge in between the blurs keeps the seam inside the face.
        soft = np.clip(soft * 2 - 1, 0, 1) if rng.random() < 0.5 else soft
    peak = float(soft.max())
    return np.asarray(soft / max(peak, 1e-6), np.float32)


def _is_grey(pixels: Picture) -> bool:
    small = pixels[::8, ::8].astype(np.int16)
    return bool(np.ptp(small, axis=2).mean() < 2)


def _greyed(pixels: Picture) -> Picture:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def _affine_fit(known: Points, wanted: Points, points: Points) -> Points:
    """Carry points along with the least-squares affine map that takes ``known`` to ``wanted``, each K×2."""
    design = np.c_[known, np.ones(len(known))]
    matrix, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    return np.asarray(np.c_[points, np.ones(len(points))] @ matrix)


def _elastic(mask: Picture, rng: np.random.Generator) -> Picture:
    """Bend a mask's outline as if drawn by hand; the field is made small and enlarged, which is smooth and cheap."""
    side = mask.shape[0]
    field = rng.normal(0, 0.02 * side, (2, 6, 6)).astype(np.float32)
    grid = np.mgrid[:side, :side].astype(np.float32)
    dy, dx = (cv2.resize(f, (side, side), interpolation=cv2.INTER_CUBIC) for f in field)
    return np.asarray(cv2.remap(mask, grid[1] + dx, grid[0] + dy, cv2.INTER_LINEAR), np.uint8)


def _nudged(pixels: Picture, rng: np.random.Generator) -> Picture:
    """Shift by up to 3 % across and 1.5 % down, scale by up to 5 %, about the centre."""
    side = pixels.shape[0]
    scale = rng.uniform(0.95, 1.05)
    shift = rng.uniform((-0.03, -0.015), (0.03, 0.015)) * side + (1 - scale) * side / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(
        cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8
    )


def _carried_over(donor: Portrait, target: Portrait) -> Picture:
    """The donor's picture moved so that its landmarks lie on the target's."""
    side = target.pixels.shape[0]
    # The stubs don't say so, but landmarks on one spot give None.
    found: Any = cv2.estimateAffinePartial2D(donor.landmarks, target.landmarks, method=cv2.LMEDS)[0]
    matrix = np.eye(2, 3) if found is None else found
    pixels, shrinks = donor.pixels, float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if 0.05 < shrinks < 0.8:
        # warpAffine skips pixels when it shrinks, which would give swaps away: average first.
        small = max(8, round(pixels.shape[0] * shrinks))
        matrix = matrix @ np.diag([pixels.shape[0] / small, pixels.shape[0] / small, 1])
        pixels = np.asarray(cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA), np.uint8)
    moved = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.uint8)


def _match_colours(source: Picture, target: Picture) -> Picture:
    """Give the source the mean and spread of the target's colours (Reinhard et al. 2001), as face swappers do."""
    a = cv2.cvtColor(source, cv2.COLOR_RGB2LAB).astype(np.float32)
    b = cv2.cvtColor(target, cv2.COLOR_RGB2LAB).astype(np.float32)
    inner = slice(source.shape[0] // 4, -source.shape[0] // 4)
    mean_a, mean_b = (v[inner, inner].mean((0, 1)) for v in (a, b))
    spread_a, spread_b = (v[inner, inner].std((0, 1)) + 1 for v in (a, b))
    matched = np.clip((a - mean_a) * np.clip(spread_b / spread_a, 0.5, 2) + mean_b, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(matched, cv2.COLOR_LAB2RGB), np.uint8)


def _restyled(pixels: Picture, rng: np.random.Generator, subtle: bool) -> Picture:
    """Change colours, one of the things that tell the two parts of a blend apart."""
    gain = 0.5 if subtle else 1.0
    image = pixels.astype(np.float32)
    if rng.random() < 0.7:
        image += rng.uniform(-20, 20, 3).astype(np.float32) * gain
    if rng.random() < 0.7:
        contrast = 1 + rng.uniform(-0.15, 0.15) * gain
        image = (image - 128) * contrast + 128 + rng.uniform(-25, 25) * gain
    image = np.clip(image, 0, 255)
    if rng.random() < 0.4:
        hsv = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-6, 6) * gain) % 180
        hsv[..., 1:] = np.clip(hsv[..., 1:] * (1 + rng.uniform(-0.3, 0.3, 2) * gain), 0, 255)
        image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    return image.astype(np.uint8)


def _refined(pixels: Picture, rng: np.random.Generator, subtle: bool) -> Picture:
    """Change the fineness of detail, the other thing: coarser, sharper, or (three times in ten) as it is."""
    chance = rng.random()
    if chance < 0.35:
        return _coarsened(pixels, rng)
    return _sharpened(pixels, rng, 0.5 if subtle else 1.0) if chance < 0.7 else pixels


def _sharpened(pixels: Picture, rng: np.random.Generator, gain: float) -> Picture:
    blurred = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.8, 2.0)).astype(np.float32)
    amount = rng.uniform(0.3, 1.2) * gain
    return np.clip(pixels + amount * (pixels - blurred), 0, 255).astype(np.uint8)


def _coarsened(pixels: Picture, rng: np.random.Generator) -> Picture:
    """Shrink by 2 to 4 and enlarge again: generators work at a size of their own."""
    side = pixels.shape[0]
    small = max(24, round(side / rng.uniform(2, 4)))
    reduced = cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA)
    back = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(reduced, (side, side), interpolation=back), np.uint8)
