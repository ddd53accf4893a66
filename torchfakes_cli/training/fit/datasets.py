"""Training crops: pairs of a real face and a fake one that went through the same augmentation, and their loader.

A pair is a fake with the same frame of its original if there is one, a real face with its self-blended twin, or else
two unrelated faces. Batches are half real and half fake, and as far as possible only the manipulation distinguishes the
halves.
"""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import signal
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchfakes_cli.errors import DataError, UsageError
from torchfakes_cli.training.config import DEFAULT_INPUT_SIZE, TrainConfig
from torchfakes_cli.training.corpora.base import FAKE, REAL
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS, read_crop, recorded_settings
from torchfakes_cli.training.fit.augment import Augmentation
from torchfakes_cli.training.fit.processes import Processes, processes_here
from torchfakes_cli.training.fit.self_blend import Portrait, blend, blending_mask, self_blend

logger = logging.getLogger(__name__)

#: Number of draws in a row that may be unreadable before training fails.
MAX_REDRAWS = 20
#: Share of the self-blended fakes whose face comes from another person.
DONOR_SHARE = 0.35
#: How much more often some crops are drawn: fakes beside their originals, because other fakes also teach their source,
#: and frames of videos for blending, because stills are sharper than scanned footage.
FAVORED_ODDS = 3.0
#: Share of the fakes that show only a part, blended into their original. The whole face shows another person as well,
#: and a network may learn the few people of a corpus by heart.
PARTIAL_SHARE = 0.5
#: Smallest share of the fake's whole change that such a part must contain.
MIN_SHOWN = 0.2
#: Largest number of reading processes of a training process.
MAX_WORKERS = 8
#: Largest size of the file of decoded crops in bytes …
MAX_ROOM = 32 << 30
#: … and the share of the disk's free space that it may take, over all processes of a machine.
FREE_SHARE = 0.25


class Drawn(NamedTuple):
    """Two crops, or a batch of them."""

    pictures: Tensor  # N×S×S×3 uint8; of a pair the real face first
    labels: Tensor  # N×1 float32, fake is 1
    passed_over: int = 0  # number of unreadable draws before this one
    # An exception would lose its message on the way out of a process.
    error: DataError | None = None  # reason why there are no crops; the pictures are then black


def collate(drawn: Sequence[Drawn]) -> Drawn:
    """Join the draws of one update."""
    # PyTorch would copy with threads of its own, which go on spinning for a while and slow the drawing threads down.
    pictures = np.concatenate([one.pictures.numpy() for one in drawn])
    return Drawn(
        pictures=torch.from_numpy(pictures),
        labels=torch.cat([one.labels for one in drawn]),
        passed_over=sum(one.passed_over for one in drawn),
        error=next((one.error for one in drawn if one.error), None),
    )


def size_at(sizes: Sequence[int], step: int, steps: int) -> int:
    """The size in use at an update (from 0), when each has an equal share of the training."""
    return sizes[min(step * len(sizes) // steps, len(sizes) - 1)]


@dataclass(frozen=True)
class Pool:
    """Rows to draw from: a method, then a source, a video, a crop, so that no collection and no film dominates."""

    # The source of a fake is its original, if known; that of all others is the person.
    methods: list[list[list[list[int]]]]  # rows by method, source and video
    odds: NDArray[np.float64]  # probability of each method

    @classmethod
    def of(cls, table: pd.DataFrame, favored: Collection[int] = (), mix: Mapping[str, float] | None = None) -> Pool:
        """Make a pool of all rows of a table.

        Methods with mostly ``favored`` rows come more often. ``mix`` gives odds of methods; the others share the
        rest.
        """
        sources = table["source"].where(table["source"] != "", table["group"])
        rows_of: dict[str, dict[str, dict[str, list[int]]]] = {}
        keys = zip(table.index, table["method"], sources, table["video"], strict=True)
        for row, method, source, video in sorted(keys, key=lambda key: key[1:]):
            rows_of.setdefault(method, {}).setdefault(source, {}).setdefault(video, []).append(int(row))
        methods = [[list(videos.values()) for videos in groups.values()] for groups in rows_of.values()]
        # The square root lies between drawing methods alike and drawing people alike.
        weights = np.sqrt([len(groups) for groups in methods])
        for place, groups in enumerate(methods):
            rows = [row for videos in groups for video in videos for row in video]
            if 2 * sum(row in favored for row in rows) > len(rows):
                weights[place] *= FAVORED_ODDS
        given = np.array([(mix or {}).get(method, np.nan) for method in rows_of])
        free = np.isnan(given)
        weights[free] *= max(0.0, 1 - np.nansum(given)) / max(1e-9, weights[free].sum())
        weights[~free] = given[~free]
        if not weights.sum():
            weights[:] = 1.0
        return cls(methods, weights / max(1e-9, weights.sum()))

    def draw(self, rng: np.random.Generator, method: int | None = None) -> tuple[int, int]:
        """Draw a row, of a given method if any; returns it and the number of its method."""
        chosen = int(rng.choice(len(self.methods), p=self.odds)) if method is None else method
        groups = self.methods[chosen]
        videos = groups[int(rng.integers(len(groups)))]
        rows = videos[int(rng.integers(len(videos)))]
        return rows[int(rng.integers(len(rows)))], chosen


class DecodedCache:
    """Reads crops and keeps their pixels: decoding a PNG takes longer than all augmentation of its pixels.

    They lie in a temporary file in ``TMPDIR`` without a name, which the system removes however the training ends, and
    caches as far as memory is free. Threads and forked processes share it; a spawned process decodes each time. Crops
    get room in the given order of their rows.
    """

    def __init__(self, folder: Path, names: Sequence[str], order: Sequence[int]) -> None:
        self._folder, self._names = folder, names
        self._largest: int = recorded_settings(folder)["size"]
        self._file: IO[bytes] | None = None
        places = 0
        if hasattr(os, "preadv"):  # not on Windows
            room = min(MAX_ROOM, FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free) / processes_here()
            places = min(len(names), int(room) // self._bytes)
            self._file = tempfile.TemporaryFile(prefix="torchfakes-crops-")  # noqa: SIM115 - open as long as this object
            weakref.finalize(self, self._file.close)
        self._places = dict(zip(order[:places], range(places), strict=True))
        # Side of the crop that is kept in each place, 0 for none yet; in memory that forked processes share.
        self._sides = np.frombuffer(mmap.mmap(-1, max(2, 2 * places)), np.uint16)

    @property
    def _bytes(self) -> int:
        return 3 * self._largest**2

    def __getstate__(self) -> dict[str, object]:
        """The state of a spawned process, which can't reach the file."""
        return self.__dict__ | {"_file": None, "_places": {}, "_sides": None}

    def read(self, row: int) -> NDArray[np.uint8]:
        """Return the crop of a row, S×S×3 uint8 RGB, for the caller to change.

        Raises:
            DataError: it can't be read or isn't square.
        """
        place = self._places.get(row)
        if place is None or self._file is None:
            return read_crop(self._folder / self._names[row])
        if side := int(self._sides[place]):
            pixels = np.empty((side, side, 3), np.uint8)
            if os.preadv(self._file.fileno(), [pixels.data], place * self._bytes) == pixels.nbytes:
                return pixels
        pixels = read_crop(self._folder / self._names[row])
        if pixels.shape[0] <= self._largest:
            try:
                if os.pwrite(self._file.fileno(), pixels.data, place * self._bytes) == pixels.nbytes:
                    # Last, so that no process reads half a crop.
                    self._sides[place] = pixels.shape[0]
            except OSError as error:  # the disk is full
                logger.debug("no more crops are kept: %s", error)
                self._places = {other: at for other, at in self._places.items() if self._sides[at]}
        return pixels


class PairDataset(Dataset[Drawn]):
    """Pairs of crops by number; the number alone decides what pair ``i`` is, so that any worker gives the same.

    With plain sampling, a pair is any two crops that follow one another in a random order of the balanced ones.
    """

    def __init__(
        self, table: pd.DataFrame, folder: Path, config: TrainConfig, pairs: int, sizes: Sequence[int] = ()
    ) -> None:
        self.config, self.pairs = config, pairs
        self._sizes = list(sizes) or [config.input_size or DEFAULT_INPUT_SIZE]
        plain = config.sampling == "plain"
        table = (table[table["balanced"].astype(bool)] if plain else table).reset_index(drop=True)
        reals, fakes = table[table["label"] == REAL], table[table["label"] == FAKE]
        if reals.empty or (fakes.empty and config.self_blend < 1):
            found = f"{len(reals)} real and {len(fakes)} fake crops to train on"
            raise DataError(f"there are {found}", path=folder, advice="Both are needed (or --self-blend 1).")
        if unknown := sorted(set(config.mix) - set(table["method"])):
            known = ", ".join(sorted(set(table["method"])))
            cause = f"no training crop is of {unknown[0]!r}, which the mix names"
            raise UsageError(cause, advice=f"There are {known}.")
        # Reals are drawn more often than any single one of their fakes.
        self._crops = DecodedCache(folder, table["crop"].tolist(), [*reals.index, *fakes.index])
        self._fake = np.asarray(table["label"] == FAKE)
        self._threads: ThreadPoolExecutor | None = None
        frames_of = reals.groupby("video")["frame"].transform("nunique")
        moving = reals[frames_of > 1]
        self._reals = Pool.of(reals, set(moving.index), config.mix)
        self._moving = Pool.of(moving if len(moving) else reals)
        self._groups: list[str] = table["group"].tolist()
        self._landmarks = table[list(LANDMARK_COLUMNS)].to_numpy(np.float64).reshape(-1, 5, 2)
        places = dict(zip(zip(reals["video"], reals["frame"], reals["face"], strict=True), reals.index, strict=True))
        keys = zip(fakes["source"], fakes["frame"], fakes["face"], strict=True)
        self._original = {
            int(row): int(places[key]) for row, key in zip(fakes.index, keys, strict=True) if key in places
        }
        self._fakes = None if fakes.empty else Pool.of(fakes, self._original, config.mix)

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, number: int) -> Drawn:
        """Pair ``number``; another one is drawn in place of a pair that can't be read."""
        rng = np.random.default_rng([self.config.seed, number])
        per_update = self.config.batch // 2
        size = size_at(self._sizes, number // per_update, max(1, self.pairs // per_update))
        error: DataError | None = None
        for passed_over in range(MAX_REDRAWS):
            try:
                if self.config.sampling == "balanced":
                    pictures, labels = self._pair(rng, size), (0.0, 1.0)
                else:
                    rows = self._plain_rows(number) if not passed_over else rng.integers(len(self._fake), size=2)
                    pictures = np.stack([self._augmentation(rng).apply(self._crops.read(row), size) for row in rows])
                    labels = (float(self._fake[rows[0]]), float(self._fake[rows[1]]))
            except DataError as unreadable:
                error = unreadable
            else:
                return Drawn(torch.from_numpy(pictures), torch.tensor(labels)[:, None], passed_over)
        black = torch.zeros(2, size, size, 3, dtype=torch.uint8)
        return Drawn(black, torch.tensor([[0.0], [1.0]]), MAX_REDRAWS, error)

    def __getitems__(self, numbers: Sequence[int]) -> list[Drawn]:
        """Draw a batch in as many threads as PyTorch computes with: OpenCV, NumPy and PyAV release the GIL."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(torch.get_num_threads(), "torchfakes-crops")
        return list(self._threads.map(self.__getitem__, numbers))

    def _augmentation(self, rng: np.random.Generator) -> Augmentation:
        return Augmentation.draw(self.config.augment, rng)

    def _pair(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        if self._fakes is None or rng.random() < self.config.self_blend:
            row, method = self._reals.draw(rng)
            # A donor from the same collection has the same kind of light and color, as a face swapper would choose.
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
        changes = self._augmentation(rng)
        return np.stack([changes.apply(real, size), changes.apply(fake, size)])

    def _donor(self, row: int, method: int, rng: np.random.Generator) -> Portrait | None:
        """Another person's face, if a few draws find one."""
        for _ in range(4):
            other = self._reals.draw(rng, method)[0]
            if self._groups[other] != self._groups[row]:
                return self._portrait(other)
        return None

    def _portrait(self, row: int) -> Portrait:
        return Portrait(self._crops.read(row), self._landmarks[row])

    def _plain_rows(self, number: int) -> list[int]:
        """Rows of a plain draw: two in a row of an order that changes with each turn."""
        places = [divmod(position, len(self._fake)) for position in (2 * number, 2 * number + 1)]
        return [int(_plain_order(self.config.seed, turn, len(self._fake))[place]) for turn, place in places]


@lru_cache(2)
def _plain_order(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, turn, 1]).permutation(count)


def _partly_shown(original: Portrait, fake: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blend a part of the fake into its original; the whole fake if too little of the manipulation would show."""
    pixels = original.pixels
    mask = blending_mask(pixels.shape[0], original.landmarks, rng)
    # In coarse cells, over which a mask changes little.
    cells = (max(1, pixels.shape[0] // 8),) * 2
    changed = cv2.resize(cv2.absdiff(pixels, fake), cells, interpolation=cv2.INTER_AREA).sum(2, dtype=np.float64)
    shown = float((changed * cv2.resize(mask, cells, interpolation=cv2.INTER_AREA)).sum())
    return blend(pixels, fake, mask) if shown >= MIN_SHOWN * float(changed.sum()) else fake


class TrainingCrops:
    """Loader of all crops of a training, update by update.

    A draw follows from its number, and the numbers of an update from the update's: a resumed training sees the same.
    Crops are read in worker processes while a GPU computes. Where the CPU trains, all cores read before each update
    instead: reading during an update slowed PyTorch's threads, which wait for one another, by several times what it
    took itself.

    ``sizes`` are sides of the pictures in pixels, each for an equal share of the training; empty for the input size.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        folder: Path,
        config: TrainConfig,
        processes: Processes,
        device: torch.device,
        sizes: Sequence[int] = (),
    ) -> None:
        if config.batch % (2 * processes.count):
            cause = f"a batch of {config.batch} can't be shared among {processes.count} processes in pairs"
            raise UsageError(cause, advice=f"Choose a --batch-size that {2 * processes.count} divides.")
        per_epoch = config.samples_per_epoch or max(config.batch, int(table["balanced"].astype(bool).sum()))
        self.steps_per_epoch = max(1, per_epoch // config.batch)
        per_batch = config.batch // 2
        dataset = PairDataset(table, folder, config, self.steps_per_epoch * config.epochs * per_batch, sizes)
        self._share, self._processes = per_batch // processes.count, processes
        self._numbers: list[int] = []  # of the draws of this process, which takes its part of every batch
        workers = config.workers if config.workers is not None else usual_workers(device)
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=self._share,
            sampler=self._numbers,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_init_worker,
            pin_memory=device.type == "cuda",
            # The common generator's state would depend on how often training was resumed.
            generator=torch.Generator(),
        )

    def epoch(self, epoch: int, step: int) -> Iterator[Drawn]:
        """The batches from an update (from 0) to the end of an epoch (from 1)."""
        steps = range(step, epoch * self.steps_per_epoch)
        starts = [(step * self._processes.count + self._processes.rank) * self._share for step in steps]
        self._numbers[:] = [start + place for start in starts for place in range(self._share)]
        return iter(self._loader)


def usual_workers(device: torch.device) -> int:
    """Number of reading processes: none if the CPU trains, else the cores shared among the training processes."""
    if device.type == "cpu":
        return 0
    return min(MAX_WORKERS, max(1, ((os.cpu_count() or 1) - 1) // processes_here()))


def _init_worker(_: int) -> None:
    """Keep a reading process to one thread, and leave Ctrl-C to the training process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
