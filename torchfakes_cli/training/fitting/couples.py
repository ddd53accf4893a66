"""Couples of a real face and a fake one that went through the same changes.

A couple is a fake with the same frame of its original where there is one, a genuine face with its self-blended twin, or
else two unrelated faces. Batches are so always half real and half fake, and as far as possible nothing but the
manipulation tells the halves apart.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from torchfakes_cli.config import DEFAULT_INPUT_SIZE, TrainConfig
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS
from torchfakes_cli.training.fitting.augment import Augmentation, Level
from torchfakes_cli.training.fitting.data import MASK_SIZE, MAX_REDRAWS, Drawn, nothing_drawn
from torchfakes_cli.training.fitting.decoded import DecodedCrops
from torchfakes_cli.training.fitting.masks import Mask, blending_mask
from torchfakes_cli.training.fitting.self_blend import Portrait, blend, self_blend

#: Share of the self-blended fakes whose face comes from another person.
DONOR_SHARE = 0.35
#: So much more often are drawn: fakes beside their originals, since others teach their source as well as the
#: manipulation, and frames of videos to be blended, since stills are sharper than what will be scanned.
FAVOURED_ODDS = 3.0
#: Share of the fakes beside their originals of which only a part is shown, in the original's picture. The whole face
#: shows another person as well, and a network may learn the few people of a corpus by heart.
PARTIAL_SHARE = 0.5
#: Of all that the fake changed, such a part must show at least this share.
MIN_SHOWN = 0.2
#: Grey levels by which a fake differs from its original, averaged over a place: up to the first it is what encoding the
#: two apart makes of one picture, from the second on the place was manipulated.
SAME, MANIPULATED = 2.0, 8.0
#: The mask of a fake of which nobody knows what was manipulated; of any size.
UNKNOWN: Mask = np.full((MASK_SIZE, MASK_SIZE), np.nan, np.float32)
#: Of a couple.
LABELS = torch.tensor([[0.0], [1.0]])


@dataclass(frozen=True)
class Pool:
    """Rows to draw from: a method, then a person, a video, a crop, so that no collection and no film drowns others."""

    methods: list[list[list[list[int]]]]
    odds: NDArray[np.float64]

    @classmethod
    def of(cls, table: pd.DataFrame, favoured: Collection[int] = ()) -> Pool:
        """All rows of a table; methods most of whose rows are ``favoured`` come more often."""
        methods = [
            [
                [[int(row) for row in video.index] for _, video in group.groupby("video")]
                for _, group in method.groupby("group")
            ]
            for _, method in table.groupby("method")
        ]
        # The square root lies between drawing methods alike and drawing persons alike.
        weights = np.sqrt([len(groups) for groups in methods])
        for place, groups in enumerate(methods):
            rows = [row for videos in groups for video in videos for row in video]
            if 2 * sum(row in favoured for row in rows) > len(rows):
                weights[place] *= FAVOURED_ODDS
        return cls(methods, weights / max(1e-9, weights.sum()))

    def draw(self, rng: np.random.Generator, method: int | None = None) -> tuple[int, int]:
        """A row, and the number of its method; of the given method where there is one."""
        chosen = int(rng.choice(len(self.methods), p=self.odds)) if method is None else method
        groups = self.methods[chosen]
        videos = groups[int(rng.integers(len(groups)))]
        rows = videos[int(rng.integers(len(videos)))]
        return rows[int(rng.integers(len(rows)))], chosen


class CoupleDataset(Dataset[Drawn]):
    """Couples by number; the number alone decides what couple ``i`` is, so that any worker gives the same.

    Args:
        table: training rows of a manifest.
        folder: the manifest's.
        config: of the training.
        couples: how many the whole training will draw; the augmentation grows along the way.

    Raises:
        DataError: there are no reals, or no fakes and no self-blending.
    """

    def __init__(self, table: pd.DataFrame, folder: Path, config: TrainConfig, couples: int) -> None:
        self.config = config
        self.couples = couples
        self._input_size = config.input_size or DEFAULT_INPUT_SIZE
        table = table.reset_index(drop=True)
        reals, fakes = table[table["label"] == REAL], table[table["label"] == FAKE]
        if reals.empty or (fakes.empty and config.self_blend < 1):
            found = f"{len(reals)} real and {len(fakes)} fake crops to train on"
            raise DataError(f"there are {found}", path=folder, advice="Both are needed (or --self-blend 1).")
        frames_of = reals.groupby("video")["frame"].transform("nunique")
        moving = reals[frames_of > 1]
        self._reals = Pool.of(reals, set(moving.index))
        self._moving = Pool.of(moving if len(moving) else reals)
        # Reals are drawn more often than any one fake of theirs.
        self._crops = DecodedCrops(folder, table["crop"].tolist(), [*reals.index, *fakes.index])
        self._groups: list[str] = table["group"].tolist()
        self._landmarks = table[list(LANDMARK_COLUMNS)].to_numpy(np.float64).reshape(-1, 5, 2)
        places = {
            (video, frame, face): int(row)
            for row, video, frame, face in zip(reals.index, reals["video"], reals["frame"], reals["face"], strict=True)
        }
        self._original = {
            int(row): places[key]
            for row, *key_parts in zip(fakes.index, fakes["source"], fakes["frame"], fakes["face"], strict=True)
            if (key := cast(tuple[str, int, int], tuple(key_parts))) in places
        }
        self._fakes = None if fakes.empty else Pool.of(fakes, self._original)

    def __len__(self) -> int:
        return self.couples

    def __getitem__(self, number: int) -> Drawn:
        """Couple ``number``; a crop that can't be read has another couple drawn in its place."""
        rng = np.random.default_rng([self.config.seed, number])
        error: DataError | None = None
        for passed_over in range(MAX_REDRAWS):
            try:
                pictures, masks = self._couple(rng, number)
            except DataError as unreadable:
                error = unreadable
            else:
                return Drawn(pictures, LABELS, masks, passed_over, None)
        return nothing_drawn(LABELS, self._input_size, error)

    def _couple(self, rng: np.random.Generator, number: int) -> tuple[Tensor, Tensor]:
        """The pictures, and their masks."""
        ramp = self.config.ramp * self.couples
        strength = 1.0 if ramp <= 0 else min(1.0, number / ramp)
        if self._fakes is None or rng.random() < self.config.self_blend:
            row, method = self._reals.draw(rng)
            # A donor from the same collection has the same kind of light and colour, as a face swapper would choose.
            donor = self._donor(row, method, rng) if rng.random() < DONOR_SHARE else None
            real, fake, mask = self_blend(self._portrait(row), rng, donor, strength)
        else:
            row, _ = self._fakes.draw(rng)
            fake = self._crops.read(row)
            if row in self._original:
                original = self._portrait(self._original[row])
                real = original.pixels
                if rng.random() < PARTIAL_SHARE and real.shape == fake.shape:
                    fake = _partly_shown(original, fake, rng)
                mask = manipulated(real, fake) if real.shape == fake.shape else UNKNOWN
            else:
                real = self._crops.read(self._moving.draw(rng)[0])
                mask = UNKNOWN
        changes = Augmentation.draw(cast(Level, self.config.augment), rng, strength)
        size = self._input_size
        pictures = np.stack([changes.apply(real, size), changes.apply(fake, size)])
        masks = np.stack([np.zeros((MASK_SIZE, MASK_SIZE), np.float32), changes.place(mask, MASK_SIZE)])
        return torch.from_numpy(pictures), torch.from_numpy(masks)

    def _donor(self, row: int, method: int, rng: np.random.Generator) -> Portrait | None:
        """Someone else's face, if a few draws find one."""
        for _ in range(4):
            other = self._reals.draw(rng, method)[0]
            if self._groups[other] != self._groups[row]:
                return self._portrait(other)
        return None

    def _portrait(self, row: int) -> Portrait:
        return Portrait(self._crops.read(row), self._landmarks[row])


def manipulated(original: NDArray[np.uint8], fake: NDArray[np.uint8]) -> Mask:
    """Where a fake differs from its original.

    Args:
        original: S×S×3 uint8.
        fake: of the same place, S×S×3.

    Returns:
        A mask of S×S, 0 to 1, which changes smoothly.
    """
    side = original.shape[0]
    places = (max(1, min(side, 2 * MASK_SIZE)),) * 2
    differs = cv2.resize(cv2.absdiff(original, fake), places, interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32)
    mask = np.clip((differs - SAME) / (MANIPULATED - SAME), 0, 1)
    return np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _partly_shown(original: Portrait, fake: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of the fake in its original's picture; the whole fake where too little of the manipulation would show."""
    pixels = original.pixels
    mask = blending_mask(pixels.shape[0], original.landmarks, rng)
    # In coarse cells, over which a mask changes little.
    cells = (max(1, pixels.shape[0] // 8),) * 2
    changed = cv2.resize(cv2.absdiff(pixels, fake), cells, interpolation=cv2.INTER_AREA).sum(2, dtype=np.float64)
    shown = float((changed * cv2.resize(mask, cells, interpolation=cv2.INTER_AREA)).sum())
    return blend(pixels, fake, mask) if shown >= MIN_SHOWN * float(changed.sum()) else fake
