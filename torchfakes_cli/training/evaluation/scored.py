"""The scores of crops, undamaged and damaged: each crop is read once, however many detectors and kinds of damage."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchfakes_cli.detector.detector import SCORE_BATCH, Detector
from torchfakes_cli.detector.preprocess import box_part
from torchfakes_cli.errors import DataError, ModelError
from torchfakes_cli.training.crops.reading import read_crop
from torchfakes_cli.training.evaluation.measure import TRACK_KEYS
from torchfakes_cli.training.evaluation.perturb import Perturbation, Picture, perturb


@dataclass(frozen=True, slots=True)
class CropScores:
    """Logits of crops, in arrays of the shape (detectors, crops).

    Attributes:
        undamaged: of the crops as they are; NaN for a crop that couldn't be read.
        damaged: for each perturbation the same; NaN too for crops that were not to be damaged.
        unreadable: why, a line for each crop that couldn't be read.
    """

    undamaged: NDArray[np.float32]
    damaged: dict[Perturbation, NDArray[np.float32]]
    unreadable: tuple[str, ...]


def score_conditions(
    detectors: Sequence[Detector],
    table: pd.DataFrame,
    folder: Path,
    perturbations: Sequence[Perturbation],
    to_damage: NDArray[np.bool_],
    seed: int,
    progress: Callable[[int, int], None],
) -> CropScores:
    """Score crops with the detectors' own code.

    Args:
        detectors: one or more.
        table: rows of a manifest.
        folder: the manifest's.
        perturbations: what to do to crops besides nothing.
        to_damage: to which of the rows.
        seed: of the noise; the same crop gets the same noise whatever else is asked for.
        progress: called with (pictures scored, pictures to score).

    Raises:
        DataError: there are rows, but none could be read.
        ModelError: a logit is no number.
    """
    wanted = len(table) + int(to_damage.sum()) * len(perturbations)
    boxes = table[["x2", "y2"]].to_numpy(float) - table[["x1", "y1"]].to_numpy(float)
    queue = _Queue(detectors, boxes, [None, *perturbations], wanted, progress)
    unreadable = []
    crops = table["crop"].tolist()
    frames = table["frame"].to_numpy()
    for places in table.groupby(TRACK_KEYS).indices.values():
        clip: list[tuple[int, Picture]] = []
        for place in sorted(places, key=lambda place: frames[place]):
            try:
                clip.append((int(place), read_crop(folder / crops[place])))
            except DataError as error:
                unreadable.append(str(error))
        for place, picture in clip:
            queue.add(None, place, picture)
        chosen = [(place, picture) for place, picture in clip if to_damage[place]]
        for perturbation in perturbations if chosen else ():
            rng = np.random.default_rng([seed, zlib.crc32(f"{perturbation} {crops[chosen[0][0]]!a}".encode())])
            damaged = perturb([picture for _, picture in chosen], perturbation, rng)
            for (place, _), picture in zip(chosen, damaged, strict=True):
                queue.add(perturbation, place, picture)
    queue.flush()
    if crops and len(unreadable) == len(crops):
        cause = f"none of {len(crops)} crops could be read"
        raise DataError(cause, path=folder, advice="Run 'torchfakes prepare' again.")
    of_damaged = {perturbation: queue.found[perturbation] for perturbation in perturbations}
    return CropScores(queue.found[None], of_damaged, tuple(unreadable))


class _Queue:
    """Gathers pictures until a batch is full, and puts each score where it belongs."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        boxes: NDArray[np.float64],
        conditions: Sequence[Perturbation | None],
        wanted: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._detectors, self._boxes = detectors, boxes
        self._wanted, self._progress = wanted, progress
        self._pictures: list[Picture] = []
        self._slots: list[tuple[Perturbation | None, int]] = []
        self._done = 0
        shape = len(detectors), len(boxes)
        self.found = {condition: np.full(shape, np.nan, np.float32) for condition in conditions}

    def add(self, condition: Perturbation | None, place: int, picture: Picture) -> None:
        """Take in a picture."""
        self._pictures.append(picture)
        self._slots.append((condition, place))
        if len(self._pictures) == SCORE_BATCH:
            self.flush()

    def flush(self) -> None:
        """Score what is there."""
        for number, detector in enumerate(self._detectors):
            pictures = self._pictures
            if detector.crop_shape == "box":
                boxes = [self._boxes[place] for _, place in self._slots]
                pictures = [box_part(picture, *box) for picture, box in zip(pictures, boxes, strict=True)]
            logits = detector.score(pictures)
            if not np.isfinite(logits).all():
                cause = f"the detector {detector.name} gives scores that are no numbers"
                raise ModelError(cause, advice="The checkpoint is likely damaged: choose another one with --model.")
            for (condition, place), logit in zip(self._slots, logits, strict=True):
                self.found[condition][number, place] = logit
        self._done += len(self._pictures)
        self._progress(self._done, self._wanted)
        self._pictures, self._slots = [], []
