"""Single crops in random order, as one trains on any pictures: what the origin did."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from torchfakes_cli.config import DEFAULT_INPUT_SIZE, TrainConfig
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import FAKE
from torchfakes_cli.training.fitting.augment import Augmentation, Level
from torchfakes_cli.training.fitting.data import MAX_REDRAWS, Drawn, nothing_drawn, unknown_masks
from torchfakes_cli.training.fitting.decoded import DecodedCrops


class PlainDataset(Dataset[Drawn]):
    """Crops by number: all balanced ones in random order, then all in another order, and so on.

    Args:
        table: training rows of a manifest.
        folder: the manifest's.
        config: of the training.
        crops: how many the whole training will draw; the augmentation grows along the way.

    Raises:
        DataError: a class is missing.
    """

    def __init__(self, table: pd.DataFrame, folder: Path, config: TrainConfig, crops: int) -> None:
        self.config, self.crops = config, crops
        self._input_size = config.input_size or DEFAULT_INPUT_SIZE
        chosen = table[table["balanced"].astype(bool)]
        self._crops = DecodedCrops(folder, chosen["crop"].tolist(), range(len(chosen)))
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
        row = self._row(number)
        label = torch.tensor([[float(self._fake[row])]])
        error: DataError | None = None
        for passed_over in range(MAX_REDRAWS):
            try:
                crop = self._crops.read(row)
            except DataError as unreadable:
                error, row = unreadable, int(rng.choice(np.flatnonzero(self._fake == self._fake[row])))
                continue
            ramp = self.config.ramp * self.crops
            strength = 1.0 if ramp <= 0 else min(1.0, number / ramp)
            picture = Augmentation.draw(cast(Level, self.config.augment), rng, strength).apply(crop, self._input_size)
            return Drawn(torch.from_numpy(picture)[None], label, unknown_masks(label), passed_over, None)
        return nothing_drawn(label, self._input_size, error)

    def _row(self, number: int) -> int:
        turn, place = divmod(number, len(self._fake))
        if self._order[0] != turn:
            self._order = (
                turn,
                np.random.default_rng([self.config.seed, turn, 1]).permutation(len(self._fake)).tolist(),
            )
        return self._order[1][place]
