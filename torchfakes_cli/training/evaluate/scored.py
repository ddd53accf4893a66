"""The scores of crops, undamaged and damaged: each crop is read once, however many detectors and kinds of damage."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchfakes_cli.detector.preprocess import box_part
from torchfakes_cli.detector.scoring import SCORE_BATCH, Detector
from torchfakes_cli.errors import DataError, ModelError
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS
from torchfakes_cli.training.crops.reading import read_crop
from torchfakes_cli.training.evaluate.measure import TRACK_KEYS
from torchfakes_cli.training.evaluate.perturb import Perturbation, Picture, perturb


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What detectors say of crops in one condition, in arrays of the shape (detectors, crops).

    Attributes:
        logits: NaN for a crop that couldn't be read.
        strangeness: see ``detector.familiar``; NaN also where a detector doesn't measure it.
    """

    logits: NDArray[np.float32]
    strangeness: NDArray[np.float32]

    @staticmethod
    def nothing(detectors: int, crops: int) -> Found:
        """To be filled in."""
        return Found(*(np.full((detectors, crops), np.nan, np.float32) for _ in range(2)))


@dataclass(frozen=True, slots=True)
class CropScores:
    """What detectors say of crops.

    Attributes:
        undamaged: of the crops as they are.
        damaged: for each perturbation the same; NaN too for crops that were not to be damaged.
        unreadable: why, a line for each crop that couldn't be read.
    """

    undamaged: Found
    damaged: dict[Perturbation, Found]
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
    landmarks = table[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, 5, 2)
    boxes = table[["x2", "y2"]].to_numpy(float) - table[["x1", "y1"]].to_numpy(float)
    queue = _Queue(detectors, boxes, landmarks, [None, *perturbations], wanted, progress)
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
        landmarks: NDArray[np.float32],
        conditions: Sequence[Perturbation | None],
        wanted: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._detectors, self._boxes, self._landmarks = detectors, boxes, landmarks
        self._wanted, self._progress = wanted, progress
        self._pictures: list[Picture] = []
        self._slots: list[tuple[Perturbation | None, int]] = []
        self._done = 0
        self.found = {condition: Found.nothing(len(detectors), len(boxes)) for condition in conditions}

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
            landmarks = [self._landmarks[place] for _, place in self._slots]
            if detector.crop_shape == "box":
                boxes = [self._boxes[place] for _, place in self._slots]
                whole = pictures
                pictures = [box_part(picture, *box) for picture, box in zip(whole, boxes, strict=True)]
                # The part lies in the middle of the square.
                corners = [
                    np.subtract(square.shape[1::-1], part.shape[1::-1]) // 2
                    for square, part in zip(whole, pictures, strict=True)
                ]
                landmarks = [points - corner for points, corner in zip(landmarks, corners, strict=True)]
            examined = detector.examine(pictures, landmarks)
            if not np.isfinite(examined.logits).all():
                cause = f"the detector {detector.name} gives scores that are no numbers"
                raise ModelError(cause, advice="The checkpoint is likely damaged: choose another one with --model.")
            for (condition, place), logit, strangeness in zip(
                self._slots, examined.logits, examined.strangeness, strict=True
            ):
                self.found[condition].logits[number, place] = logit
                self.found[condition].strangeness[number, place] = strangeness
        self._done += len(self._pictures)
        self._progress(self._done, self._wanted)
        self._pictures, self._slots = [], []
