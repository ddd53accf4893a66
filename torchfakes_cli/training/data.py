"""What the network is shown: couples of a real face and a fake one that went through the same changes.

A couple is a fake with the same frame of its original where there is one, a genuine face with its self-blended twin, or
else two unrelated faces. Batches are so always half real and half fake, and as far as possible nothing but the
manipulation tells the halves apart.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from torchfakes_cli.config import DEFAULT_INPUT_SIZE, TrainConfig
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.augment import Augmentation, Level
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.manifest import LANDMARK_COLUMNS
from torchfakes_cli.training.parts import SETTINGS_NAME
from torchfakes_cli.training.self_blend import Portrait, blend, blending_mask, self_blend

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
#: A couple is drawn again this often when a crop can't be read, before training gives up.
MAX_REDRAWS = 20


def read_crop(path: Path) -> NDArray[np.uint8]:
    """Read a crop.

    Returns:
        S×S×3 uint8 RGB.

    Raises:
        DataError: it can't be read or isn't square.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", path=path) from error
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # such as a header that claims a gigantic picture
        picture = None
    if picture is None or picture.shape[0] != picture.shape[1]:
        raise DataError("is not a square picture", path=path, advice="Run 'torchfakes prepare' again.")
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


@dataclass(frozen=True)
class _Pool:
    """Rows to draw from: first a method, then a person, then a crop, so that no collection drowns the others."""

    methods: list[list[list[int]]]
    odds: NDArray[np.float64]

    @classmethod
    def of(cls, table: pd.DataFrame, favoured: Collection[int] = ()) -> _Pool:
        """All rows of a table; methods most of whose rows are ``favoured`` come more often."""
        methods = [
            [[int(i) for i in rows.index] for _, rows in method.groupby("group")]
            for _, method in table.groupby("method")
        ]
        # The square root lies between drawing methods alike and drawing persons alike.
        weights = np.sqrt([len(groups) for groups in methods])
        for place, groups in enumerate(methods):
            rows = [row for group in groups for row in group]
            if 2 * sum(row in favoured for row in rows) > len(rows):
                weights[place] *= FAVOURED_ODDS
        return cls(methods, weights / max(1e-9, weights.sum()))

    def draw(self, rng: np.random.Generator, method: int | None = None) -> tuple[int, int]:
        """A row, and the number of its method; of the given method where there is one."""
        chosen = int(rng.choice(len(self.methods), p=self.odds)) if method is None else method
        groups = self.methods[chosen]
        rows = groups[int(rng.integers(len(groups)))]
        return rows[int(rng.integers(len(rows)))], chosen


class Couple(NamedTuple):
    """A real face and a fake one.

    Attributes:
        pictures: 2×S×S×3 uint8, the real face first.
        passed_over: crops that couldn't be read on the way to it.
        error: why there is none; the pictures are then black.
    """

    pictures: Tensor
    passed_over: int
    error: DataError | None


class Batch(NamedTuple):
    """Couples for one step.

    Attributes:
        pictures: N×S×S×3 uint8, real and fake in turn.
        labels: N×1 float32, 0 and 1 in turn.
        passed_over: crops that couldn't be read on the way to it.
        error: the first of its couples' errors.
    """

    pictures: Tensor
    labels: Tensor
    passed_over: int
    error: DataError | None


class CoupleDataset(Dataset[Couple]):
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
        self.folder = folder
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
        self._reals = _Pool.of(reals, set(moving.index))
        self._moving = _Pool.of(moving if len(moving) else reals)
        self._crops: list[str] = table["crop"].tolist()
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
        self._fakes = None if fakes.empty else _Pool.of(fakes, self._original)

    def __len__(self) -> int:
        return self.couples

    def __getitem__(self, number: int) -> Couple:
        """Couple ``number``; a crop that can't be read has another couple drawn in its place."""
        rng = np.random.default_rng([self.config.seed, number])
        error: DataError | None = None
        for passed_over in range(MAX_REDRAWS):
            try:
                return Couple(self._couple(rng, number), passed_over, None)
            except DataError as unreadable:
                error = unreadable
        # Handed on as a value: an exception would lose its words on the way out of a worker process.
        size = self._input_size
        return Couple(torch.zeros(2, size, size, 3, dtype=torch.uint8), MAX_REDRAWS, error)

    def _couple(self, rng: np.random.Generator, number: int) -> Tensor:
        ramp = self.config.ramp * self.couples
        strength = 1.0 if ramp <= 0 else min(1.0, number / ramp)
        if self._fakes is None or rng.random() < self.config.self_blend:
            row, method = self._reals.draw(rng)
            # A donor from the same collection has the same kind of light and colour, as a face swapper would choose.
            donor = self._donor(row, method, rng) if rng.random() < DONOR_SHARE else None
            real, fake = self_blend(self._portrait(row), rng, donor, strength)
        else:
            row, _ = self._fakes.draw(rng)
            fake = self._read(row)
            if row in self._original:
                original = self._portrait(self._original[row])
                real = original.pixels
                if rng.random() < PARTIAL_SHARE and real.shape == fake.shape:
                    fake = _partly_shown(original, fake, rng)
            else:
                real = self._read(self._moving.draw(rng)[0])
        changes = Augmentation.draw(cast(Level, self.config.augment), rng, strength)
        size = self._input_size
        return torch.from_numpy(np.stack([changes.apply(real, size), changes.apply(fake, size)]))

    def _donor(self, row: int, method: int, rng: np.random.Generator) -> Portrait | None:
        """Someone else's face, if a few draws find one."""
        for _ in range(4):
            other = self._reals.draw(rng, method)[0]
            if self._groups[other] != self._groups[row]:
                return self._portrait(other)
        return None

    def _read(self, row: int) -> NDArray[np.uint8]:
        return read_crop(self.folder / self._crops[row])

    def _portrait(self, row: int) -> Portrait:
        return Portrait(self._read(row), self._landmarks[row])


def _partly_shown(original: Portrait, fake: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of the fake in its original's picture; the whole fake where too little of the manipulation would show."""
    mask = blending_mask(original, rng)
    changed = np.abs(original.pixels.astype(np.float32) - fake).sum(2)
    shown = float((changed * mask).sum()) / max(1e-6, float(changed.sum()))
    return blend(original.pixels, fake, mask) if shown >= MIN_SHOWN else fake


class EpochSampler(Sampler[int]):
    """The numbers of one epoch's couples; ``epoch`` is set before each."""

    def __init__(self, couples_per_epoch: int) -> None:
        self.couples_per_epoch = couples_per_epoch
        self.epoch = 0

    def __len__(self) -> int:
        return self.couples_per_epoch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.couples_per_epoch
        return iter(range(start, start + self.couples_per_epoch))


def collate_couples(couples: Sequence[Couple]) -> Batch:
    """Puts couples together for one step."""
    return Batch(
        pictures=torch.cat([couple.pictures for couple in couples]),
        labels=torch.tensor([0.0, 1.0]).repeat(len(couples))[:, None],
        passed_over=sum(couple.passed_over for couple in couples),
        error=next((couple.error for couple in couples if couple.error), None),
    )


def init_worker(_: int) -> None:
    """Keep a reading process to one thread; the processes are the parallelism."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def recorded_margin(folder: Path) -> float:
    """The margin factor that a folder's crops were cut with, as ``prepare`` wrote it down.

    Raises:
        DataError: its record is missing or damaged.
    """
    path = folder / SETTINGS_NAME
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["settings"]["margin"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("is missing or damaged", path=path, advice="Run 'torchfakes prepare' again.") from error
