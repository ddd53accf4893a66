"""Changes that a picture may go through on its way to a viewer, applied alike to a real face and its fake.

Only the manipulation may distinguish the two: ``Augmentation`` is drawn once and applied to both.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from torchfakes_cli.detector.preprocess import resize_crop
from torchfakes_cli.training.config import Augment
from torchfakes_cli.training.evaluate.perturb import Picture, jpeg_round_trip
from torchfakes_cli.video.encode import h264_round_trip

#: Odds of what destroys detail, at the levels strong and light; the best detector was trained with the first.
ODDS = {"strong": 0.7, "light": 0.42}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One drawn set of changes."""

    flip: bool = False  # mirror left and right
    # (left, top, side) of the part kept, as shares of the crop's side
    window: tuple[float, float, float] = (0.0, 0.0, 1.0)
    # Contrast, brightness in gray levels, and gain of each color; None for no change
    tone: tuple[float, ...] | None = None
    shrink: float = 1.0  # factor to reduce and enlarge again by; 1 for none
    blur: float = 0.0  # Gaussian sigma in pixels of the result; 0 for none
    noise: float = 0.0  # standard deviation in gray levels; 0 for none
    jpeg: int = 0  # quality, 1 to 100; 0 for none
    h264: int = 0  # constant rate factor of a video encoder, 1 to 51; 0 for none
    noise_seed: int = 0  # seed of the noise

    @classmethod
    def draw(cls, level: Augment, rng: np.random.Generator) -> Augmentation:
        """Draw changes.

        Level ``light`` is flips, small shifts, tone and mild JPEG; ``strong`` adds heavy JPEG, H.264, reduction, blur
        and noise.
        """
        if level == "none":
            return cls()
        side = rng.uniform(0.86, 1.0)
        left, top = rng.uniform(0, 1 - side, 2)
        tone = (rng.uniform(0.85, 1.15), rng.uniform(-20, 20), *rng.uniform(0.94, 1.06, 3))
        strong, odds = level == "strong", ODDS[level]

        def sometimes(share: float) -> bool:
            return bool(rng.random() < share * odds)

        return cls(
            flip=bool(rng.random() < 0.5),
            window=(left, top, side),
            tone=tone if rng.random() < 0.6 else None,
            # Without these two, softness itself is learned as a mark of fakes, and every soft film is called fake.
            shrink=rng.uniform(1.2, 2.5) if strong and sometimes(0.4) else 1.0,
            blur=rng.uniform(0.3, 1.2) if strong and sometimes(0.35) else 0.0,
            noise=rng.uniform(1, 6) if strong and sometimes(0.2) else 0.0,
            jpeg=int(rng.integers(30 if strong else 60, 101)) if sometimes(0.6) else 0,
            # What FaceForensics++ calls c23 and c40, and all between.
            h264=int(rng.integers(23, 41)) if strong and sometimes(0.4) else 0,
            noise_seed=int(rng.integers(1 << 31)),
        )

    def apply(self, crop: Picture, size: int) -> Picture:
        """Change a crop, S×S×3 uint8 RGB, and bring it to size×size×3."""
        left, top, kept = (round(share * crop.shape[0]) for share in self.window)
        picture = resize_crop(np.ascontiguousarray(crop[top : top + kept, left : left + kept]), size)
        if self.flip:
            picture = np.asarray(cv2.flip(picture, 1), np.uint8)
        if self.tone is not None:
            contrast, brightness, *gains = self.tone
            values = np.arange(256, dtype=np.float32)[:, None] * np.array(gains, np.float32) * contrast
            table = np.clip(values + (brightness + 128 * (1 - contrast)), 0, 255).astype(np.uint8)
            picture = np.asarray(cv2.LUT(picture, table[None]), np.uint8)
        if self.shrink > 1:
            small = max(16, round(size / self.shrink))
            reduced = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            picture = np.asarray(cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
        if self.blur > 0:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self.blur), np.uint8)
        if self.noise > 0:
            noise = np.random.default_rng(self.noise_seed).standard_normal(picture.shape, np.float32)
            picture = np.clip(picture + self.noise * noise, 0, 255).astype(np.uint8)
        if self.jpeg:
            picture = jpeg_round_trip(picture, self.jpeg)
        # Last, as films are edited from compressed pictures and then compressed as a whole. A crop by itself is a key
        # frame: were the real face and the fake one encoded together, one would carry over into the other.
        return h264_round_trip([picture], self.h264)[0] if self.h264 else picture
