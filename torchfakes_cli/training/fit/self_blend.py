"""Fakes made from real faces: self-blended images and swaps between people.

A network that sees the fakes of one generator only learns that generator. Blending a slightly changed copy of a
face into itself leaves what face swaps have in common (a seam, two kinds of grain, two kinds of light), nothing else.
Built from the description in Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022),
https://arxiv.org/abs/2204.08376, with masks fitted to MTCNN's five landmarks in place of a landmark network, and with a
second face as the source now and then, as Li et al., "Face X-ray" (CVPR 2020) did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces import regions
from torchfakes_cli.faces.regions import LANDMARKS, Points, both_sides, fit_points

Picture = NDArray[np.uint8]
Mask = NDArray[np.float32]

#: Opacities of the source at its strongest.
OPACITIES = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
#: All values of a channel, in a column.
_LEVELS = np.arange(256.0)[:, None]
#: Outlines of known manipulations; a hull is drawn around each.
HULLS = {
    "face": both_sides(regions.JAW + regions.BROW),
    "face_and_forehead": both_sides(regions.JAW + regions.FOREHEAD),
    "inner_face": both_sides(regions.BROW + regions.CHEEK + regions.MOUTH),
    "mouth_and_chin": both_sides(regions.JAW[4:] + regions.NOSE[:2]),
    "mouth": both_sides(regions.MOUTH) * (1.25, 1.15) - (0, 0.15),
    "eyes_and_nose": both_sides(regions.BROW + regions.EYE + regions.NOSE),
}
_HULL_NAMES = tuple(HULLS)
_HULL_ODDS = np.array([0.32, 0.14, 0.24, 0.14, 0.06, 0.10])
#: Number of pieces that straight edges are cut into before they are bent.
_PIECES = 8


@dataclass(frozen=True, slots=True)
class Portrait:
    """A crop and the landmarks of its face."""

    pixels: Picture  # S×S×3 uint8 RGB
    landmarks: Points  # 5×2, (x, y) in pixels of the crop: eyes, nose, mouth corners


def self_blend(
    target: Portrait, rng: np.random.Generator, donor: Portrait | None = None
) -> tuple[Picture, Picture, Mask]:
    """Make a pair of a real face and a fake one from a real face, or with the face of a donor.

    Returns:
        (real, fake, mask): pictures of the target's shape, and where they differ, S×S from 0 to 1. The real one has the
        same changes of color and grain, unless only the face was to differ in them.
    """
    base = target.pixels
    source = _nudged(base, rng) if donor is None else _match_colors(_carried_over(donor, target), base)
    subtle = rng.random() < 0.5
    # Either side may be the coarser or the brighter one: were it always the face, softness itself would reveal a fake.
    if donor is not None or rng.random() < 0.5:
        source = _refined(_restyled(source, rng, subtle), rng, subtle)
    else:
        base = _refined(_restyled(base, rng, subtle), rng, subtle)
    opacity = 1.0 if donor is not None else float(rng.choice(OPACITIES))
    mask = blending_mask(base.shape[0], target.landmarks, rng)
    fake = blend(base, source, mask * opacity)
    if np.ptp(target.pixels[::8, ::8].astype(np.int16), axis=2).mean() < 2:
        # A colored face in a gray picture would teach nothing.
        base, fake = (
            np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2).astype(np.uint8)
            for picture in (base, fake)
        )
    return base, fake, mask


def blend(base: Picture, source: Picture, mask: Mask) -> Picture:
    """Blend two pictures: the source where the mask is 1, the base where it is 0."""
    return np.asarray(cv2.blendLinear(source, base, mask, 1 - mask), np.uint8)


def _nudged(pixels: Picture, rng: np.random.Generator) -> Picture:
    """Shift by up to 3 % across and 1.5 % down, scale by up to 5 %, about the center."""
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


def _match_colors(source: Picture, target: Picture) -> Picture:
    """Give the source the mean and spread of the target's colors (Reinhard et al. 2001), as face swappers do."""
    a, b = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) for picture in (source, target))
    inner = slice(source.shape[0] // 4, -source.shape[0] // 4)
    (mean_a, spread_a), (mean_b, spread_b) = (cv2.meanStdDev(lab[inner, inner]) for lab in (a, b))
    gains = np.clip((spread_b + 1) / (spread_a + 1), 0.5, 2)
    matched = _through_table(np.asarray(a, np.uint8), (_LEVELS - mean_a.T) * gains.T + mean_b.T)
    return np.asarray(cv2.cvtColor(matched, cv2.COLOR_LAB2RGB), np.uint8)


def _restyled(pixels: Picture, rng: np.random.Generator, subtle: bool) -> Picture:
    """Change colors, one of the differences between the two parts of a blend."""
    gain = 0.5 if subtle else 1.0
    values = np.repeat(_LEVELS, 3, 1)
    if rng.random() < 0.7:
        values = values + rng.uniform(-20, 20, 3) * gain
    if rng.random() < 0.7:
        contrast = 1 + rng.uniform(-0.15, 0.15) * gain
        values = (values - 128) * contrast + 128 + rng.uniform(-25, 25) * gain
    image = _through_table(pixels, values)
    if rng.random() < 0.4:
        hue = (_LEVELS + rng.uniform(-6, 6) * gain) % 180
        rest = _LEVELS * (1 + rng.uniform(-0.3, 0.3, 2) * gain)
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
        image = np.asarray(cv2.cvtColor(_through_table(hsv, np.c_[hue, rest]), cv2.COLOR_HSV2RGB), np.uint8)
    return image


def _through_table(picture: Picture, values: NDArray[np.float64]) -> Picture:
    """Replace each channel's levels by those of a 256×3 table, which is much faster than to compute pixel by pixel."""
    return np.asarray(cv2.LUT(picture, np.clip(values, 0, 255).astype(np.uint8)[None]), np.uint8)


def _refined(pixels: Picture, rng: np.random.Generator, subtle: bool) -> Picture:
    """Change the fineness of detail, the other difference: coarser, sharper, or (three times in ten) unchanged."""
    chance = rng.random()
    if chance < 0.35:  # reduced and enlarged again, because generators work at a size of their own
        side = pixels.shape[0]
        small = max(24, round(side / rng.uniform(2, 4)))
        pixels = np.asarray(cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA), np.uint8)
        enlarged = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(pixels, (side, side), interpolation=enlarged), np.uint8)
    if chance < 0.7:  # unsharp masking
        blurred = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.8, 2.0))
        amount = rng.uniform(0.3, 1.2) * (0.5 if subtle else 1.0)
        return np.asarray(cv2.addWeighted(pixels, 1 + amount, blurred, -amount, 0), np.uint8)
    return pixels


def blending_mask(side: int, landmarks: Points, rng: np.random.Generator) -> Mask:
    """A soft mask over a part of the face, side×side from 0 to 1; the landmarks are 5×2 in pixels."""
    name = _HULL_NAMES[int(rng.choice(len(_HULL_NAMES), p=_HULL_ODDS))]
    outline = HULLS[name] + rng.normal(0, 0.05, HULLS[name].shape)
    outline = (outline - (0, 0.5)) * rng.uniform(0.85, 1.08, 2) + (0, 0.5)
    points = fit_points(LANDMARKS, landmarks, outline)
    hull = np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float32)
    mask = np.zeros((side, side), np.uint8)
    # The coordinates have four fractional bits.
    cv2.fillPoly(mask, [np.rint(_bent(hull, side, rng) * 16).astype(np.int32)], 255, shift=4)
    soft = np.asarray(mask / 255, np.float32)
    face = float(np.linalg.norm(landmarks[1] - landmarks[0])) + 1
    for _ in range(2):
        soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), face * rng.uniform(0.02, 0.16)), np.float32)
        # Pulling the edge in between the blurs keeps the seam inside the face.
        soft = np.asarray(np.clip(soft * 2 - 1, 0, 1), np.float32) if rng.random() < 0.5 else soft
    peak = float(soft.max())
    return np.asarray(soft / max(peak, 1e-6), np.float32)


def _bent(hull: NDArray[np.float32], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Bend an outline as if drawn by hand, K×2 to more points: each is moved by a smooth random field."""
    along = np.linspace(0, 1, _PIECES, endpoint=False, dtype=np.float32)[None, :, None]
    points = (hull[:, None] * (1 - along) + np.roll(hull, -1, 0)[:, None] * along).reshape(-1, 2)
    field = rng.normal(0, 0.02 * side, (6, 6, 2)).astype(np.float32)
    x, y = ((points + 0.5) * (6 / side) - 0.5).astype(np.float32).T
    moves = cv2.remap(field, x[None], y[None], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)[0]
    return np.asarray(points + moves, np.float32)
