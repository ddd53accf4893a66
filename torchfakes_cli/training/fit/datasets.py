"""Crops drawn for training: pairs of a real face and a fake one that went through the same changes, or single crops.

A pair is a fake with the same frame of its original where there is one, a genuine face with its self-blended twin, or
else two unrelated faces. Batches are so always half real and half fake, and as far as possible nothing but the
manipulation distinguishes the halves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from torchfakes_cli.errors import DataError, UsageError
from torchfakes_cli.training.config import DEFAULT_INPUT_SIZE, TrainConfig
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS
from torchfakes_cli.training.fit.augment import Augmentation, Level
from torchfakes_cli.training.fit.decoded_cache import DecodedCache
from torchfakes_cli.training.fit.self_blend import Portrait, blend, blending_mask, self_blend

#: A draw is repeated this often when a crop can't be read, before training fails.
MAX_REDRAWS = 20
#: Share of the self-blended fakes whose face comes from another person.
DONOR_SHARE = 0.35
#: How much more often some are drawn: fakes beside their originals, since others teach their source as well as the
#: manipulation, and frames of videos to be blended, since stills are sharper than what will be scanned.
FAVOURED_ODDS = 3.0
#: Share of the fakes beside their originals that show only a part, in the original's picture. The whole face
#: shows another person as well, and a network may learn the few people of a corpus by heart.
PARTIAL_SHARE = 0.5
#: Of all that the fake changed, such a part must show at least this share.
MIN_SHOWN = 0.2
#: Of a pair.
LABELS = torch.tensor([[0.0], [1.0]])


class Drawn(NamedTuple):
    """A pair of a real face and a fake one, a single crop, or a batch of either.

    Attributes:
        pictures: N×S×S×3 uint8; of a pair the real face first.
        labels: N×1 float32, fake is 1.
        passed_over: crops that couldn't be read on the way to it.
        error: why there is none; the pictures are then black.
    """

    pictures: Tensor
    labels: Tensor
    passed_over: int
    error: DataError | None


def collate(drawn: Sequence[Drawn]) -> Drawn:
    """Join the draws of one update."""
    # PyTorch would copy with threads of its own, which go on spinning for a while and hold up those that draw.
    pictures = np.concatenate([one.pictures.numpy() for one in drawn])
    return Drawn(
        pictures=torch.from_numpy(pictures),
        labels=torch.cat([one.labels for one in drawn]),
        passed_over=sum(one.passed_over for one in drawn),
        error=next((one.error for one in drawn if one.error), None),
    )


def _nothing_drawn(labels: Tensor, size: int, error: DataError | None) -> Drawn:
    """Placeholder for crops that can't be read: an exception would lose its message on the way out of a process."""
    return Drawn(torch.zeros(len(labels), size, size, 3, dtype=torch.uint8), labels, MAX_REDRAWS, error)


def picture_size(sizes: Sequence[int], config: TrainConfig, number: int, per_update: int, count: int) -> int:
    """Side in pixels of a draw: sizes change between updates, each for an equal share of the training.

    Args:
        sizes: of the training; empty for ``config.input_size``.
        config: of the training.
        number: of the draw, from 0.
        per_update: draws an update.
        count: draws of the whole training.
    """
    if not sizes:
        return config.input_size or DEFAULT_INPUT_SIZE
    steps = max(1, count // per_update)
    return sizes[min(number // per_update * len(sizes) // steps, len(sizes) - 1)]


@dataclass(frozen=True)
class Pool:
    """Rows to draw from: a method, then a source, a video, a crop, so that no collection and no film drowns others.

    Attributes:
        methods: rows by method, source and video. A fake's source is its original, where that is known; that of all
            others is the person.
        odds: of each method.
    """

    methods: list[list[list[list[int]]]]
    odds: NDArray[np.float64]

    @classmethod
    def of(cls, table: pd.DataFrame, favoured: Collection[int] = (), mix: Mapping[str, float] | None = None) -> Pool:
        """All rows of a table.

        Args:
            table: rows of a manifest.
            favoured: methods most of whose rows are among these come more often.
            mix: odds of methods; the other methods share the rest.
        """
        sources = table["source"].where(table["source"] != "", table["group"])
        rows_of: dict[str, dict[str, dict[str, list[int]]]] = {}
        keys = zip(table.index, table["method"], sources, table["video"], strict=True)
        for row, method, source, video in sorted(keys, key=lambda key: key[1:]):
            rows_of.setdefault(method, {}).setdefault(source, {}).setdefault(video, []).append(int(row))
        methods = [[list(videos.values()) for videos in groups.values()] for groups in rows_of.values()]
        # The square root lies between drawing methods alike and drawing persons alike.
        weights = np.sqrt([len(groups) for groups in methods])
        for place, groups in enumerate(methods):
            rows = [row for videos in groups for video in videos for row in video]
            if 2 * sum(row in favoured for row in rows) > len(rows):
                weights[place] *= FAVOURED_ODDS
        given = np.array([(mix or {}).get(method, np.nan) for method in rows_of])
        free = np.isnan(given)
        weights[free] *= max(0.0, 1 - np.nansum(given)) / max(1e-9, weights[free].sum())
        weights[~free] = given[~free]
        if not weights.sum():
            weights[:] = 1.0
        return cls(methods, weights / max(1e-9, weights.sum()))

    def draw(self, rng: np.random.Generator, method: int | None = None) -> tuple[int, int]:
        """A row, and the number of its method; of the given method where there is one."""
        chosen = int(rng.choice(len(self.methods), p=self.odds)) if method is None else method
        groups = self.methods[chosen]
        videos = groups[int(rng.integers(len(groups)))]
        rows = videos[int(rng.integers(len(videos)))]
        return rows[int(rng.integers(len(rows)))], chosen


class PairDataset(Dataset[Drawn]):
    """Pairs by number; the number alone decides what pair ``i`` is, so that any worker gives the same.

    Args:
        table: training rows of a manifest.
        folder: the manifest's.
        config: of the training.
        pairs: number of pairs in the whole training.
        sizes: sides of the pictures in pixels, each for an equal share of the training; empty for the input size.

    Raises:
        DataError: there are no reals, or no fakes and no self-blending.
        UsageError: the mix names a method that isn't there.
    """

    def __init__(
        self, table: pd.DataFrame, folder: Path, config: TrainConfig, pairs: int, sizes: Sequence[int] = ()
    ) -> None:
        self.config, self.pairs, self._sizes = config, pairs, sizes
        table = table.reset_index(drop=True)
        reals, fakes = table[table["label"] == REAL], table[table["label"] == FAKE]
        if reals.empty or (fakes.empty and config.self_blend < 1):
            found = f"{len(reals)} real and {len(fakes)} fake crops to train on"
            raise DataError(f"there are {found}", path=folder, advice="Both are needed (or --self-blend 1).")
        if unknown := sorted(set(config.mix) - set(table["method"])):
            known = ", ".join(sorted(set(table["method"])))
            raise UsageError(
                f"no training crop is of {unknown[0]!r}, which the mix names", advice=f"There are {known}."
            )
        frames_of = reals.groupby("video")["frame"].transform("nunique")
        moving = reals[frames_of > 1]
        self._reals = Pool.of(reals, set(moving.index), config.mix)
        self._moving = Pool.of(moving if len(moving) else reals)
        # Reals are drawn more often than any one fake of theirs.
        self._crops = DecodedCache(folder, table["crop"].tolist(), [*reals.index, *fakes.index])
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
        self._fakes = None if fakes.empty else Pool.of(fakes, self._original, config.mix)

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, number: int) -> Drawn:
        """Pair ``number``; a crop that can't be read has another pair drawn in its place."""
        rng = np.random.default_rng([self.config.seed, number])
        size = picture_size(self._sizes, self.config, number, self.config.batch // 2, self.pairs)
        error: DataError | None = None
        for passed_over in range(MAX_REDRAWS):
            try:
                pictures = self._pair(rng, size)
            except DataError as unreadable:
                error = unreadable
            else:
                return Drawn(pictures, LABELS, passed_over, None)
        return _nothing_drawn(LABELS, size, error)

    def _pair(self, rng: np.random.Generator, size: int) -> Tensor:
        if self._fakes is None or rng.random() < self.config.self_blend:
            row, method = self._reals.draw(rng)
            # A donor from the same collection has the same kind of light and colour, as a face swapper would choose.
            donor = self._donor(row, method, rng) if rng.random() < DONOR_SHARE else None
            real, fake, _ = self_blend(self._portrait(row), rng, donor)
        else:
            row, _ = self._fakes.draw(rng)
            fake = self._crops.read(row)
            if row in self._original:
                original = self._portrait(self._original[row])
                real = original.pixels
                if rng.random() < PARTIAL_SHARE and real.shape == fake.shape:
                    fake = _partly_shown(original, fake, rng)
            else:
                real = self._crops.read(self._moving.draw(rng)[0])
        changes = Augmentation.draw(cast(Level, self.config.augment), rng)
        return torch.from_numpy(np.stack([changes.apply(real, size), changes.apply(fake, size)]))

    def _donor(self, row: int, method: int, rng: np.random.Generator) -> Portrait | None:
        """Someone else's face, if a few draws find one."""
        for _ in range(4):
            other = self._reals.draw(rng, method)[0]
            if self._groups[other] != self._groups[row]:
                return self._portrait(other)
        return None

    def _portrait(self, row: int) -> Portrait:
        return Portrait(self._crops.read(row), self._landmarks[row])


def _partly_shown(original: Portrait, fake: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of the fake in its original's picture; the whole fake where too little of the manipulation would show."""
    pixels = original.pixels
    mask = blending_mask(pixels.shape[0], original.landmarks, rng)
    # In coarse cells, over which a mask changes little.
    cells = (max(1, pixels.shape[0] // 8),) * 2
    changed = cv2.resize(cv2.absdiff(pixels, fake), cells, interpolation=cv2.INTER_AREA).sum(2, dtype=np.float64)
    shown = float((changed * cv2.resize(mask, cells, interpolation=cv2.INTER_AREA)).sum())
    return blend(pixels, fake, mask) if shown >= MIN_SHOWN * float(changed.sum()) else fake


class PlainDataset(Dataset[Drawn]):
    """Single crops by number, as the origin drew them: all balanced ones in random order, then all in another order.

    Args:
        table: training rows of a manifest.
        folder: the manifest's.
        config: of the training.
        crops: number of crops in the whole training.
        sizes: sides of the pictures in pixels, each for an equal share of the training; empty for the input size.

    Raises:
        DataError: a class is missing.
    """

    def __init__(
        self, table: pd.DataFrame, folder: Path, config: TrainConfig, crops: int, sizes: Sequence[int] = ()
    ) -> None:
        self.config, self.crops, self._sizes = config, crops, sizes
        chosen = table[table["balanced"].astype(bool)]
        self._crops = DecodedCache(folder, chosen["crop"].tolist(), range(len(chosen)))
        self._fake = np.asarray(chosen["label"] == FAKE)
        fakes = int(self._fake.sum())
        if not 0 < fakes < len(chosen):
            found = f"{len(chosen) - fakes} real and {fakes} fake balanced crops to train on"
            raise DataError(f"there are {found}", path=folder, advice="Both are needed: prepare more footage.")
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.crops

    def __getitem__(self, number: int) -> Drawn:
        """Crop ``number``; one that can't be read has another drawn in its place."""
        rng = np.random.default_rng([self.config.seed, number])
        size = picture_size(self._sizes, self.config, number, self.config.batch, self.crops)
        row = self._row(number)
        label = torch.tensor([[float(self._fake[row])]])
        error: DataError | None = None
        for passed_over in range(MAX_REDRAWS):
            try:
                crop = self._crops.read(row)
            except DataError as unreadable:
                error, row = unreadable, int(rng.choice(np.flatnonzero(self._fake == self._fake[row])))
                continue
            picture = Augmentation.draw(cast(Level, self.config.augment), rng).apply(crop, size)
            return Drawn(torch.from_numpy(picture)[None], label, passed_over, None)
        return _nothing_drawn(label, size, error)

    def _row(self, number: int) -> int:
        turn, place = divmod(number, len(self._fake))
        if self._order[0] != turn:
            order = np.random.default_rng([self.config.seed, turn, 1]).permutation(len(self._fake))
            self._order = (turn, order.tolist())
        return self._order[1][place]
