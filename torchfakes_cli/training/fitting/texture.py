"""Fits a texture (see ``detector.texture``) to training crops: a linear discriminant of all kinds of fakes and reals.

Means come from few videos, but what differs from face to face without any meaning (people, light, cameras) is learnt
from every real face at hand, single pictures among them, and from what damage does to a crop. Where a fake's original
is there, the two are compared with each other, so that neither people nor footage blur what the manipulation changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchfakes_cli.detector.texture import LENGTH, Texture, describe
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS
from torchfakes_cli.training.crops.reading import read_crop
from torchfakes_cli.training.fitting.augment import Augmentation

Values = NDArray[np.float64]

#: Added to every direction's variance: with a few hundred videos the covariance of 1,536 values is poorly known.
#: Chosen, like the two below, by cross-validation over the groups of 195 public clips.
RIDGE = 0.1
#: The kinds' log-likelihoods are divided by this: with such a covariance they are far too sure of themselves.
TEMPERATURE = 10.0
#: Weight of what damage changes beside what differs from face to face.
DAMAGE = 0.1
#: Kinds with fewer videos are taken together.
KIND_VIDEOS = 8
#: One crop in so many is damaged too.
DAMAGED_EVERY = 2
_VIDEO_KEYS = ["label", "method", "video"]


@dataclass(frozen=True, slots=True)
class Described:
    """The detail of crops.

    Attributes:
        table: the manifest's rows that could be read.
        values: a row each, see ``detector.texture.describe``.
        changes: what damage changed, for some of the crops.
        unreadable: why, a line for each crop that couldn't be read.
    """

    table: pd.DataFrame
    values: NDArray[np.float32]
    changes: NDArray[np.float32]
    unreadable: tuple[str, ...] = ()


def describe_crops(
    table: pd.DataFrame, folder: Path, *, damage: bool = False, seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _wanted: None,
) -> Described:  # fmt: skip
    """Measure the detail of crops.

    Args:
        table: rows of a manifest.
        folder: the manifest's.
        damage: measure some of them damaged too, as strong augmentation does.
        seed: of the damage.
        progress: called with (crops read, crops to read).

    Raises:
        DataError: there are rows, but none could be read.
    """
    values, changes, places, unreadable = [], [], [], []
    landmarks = table[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, 5, 2)
    for place, (crop, points) in enumerate(zip(table["crop"], landmarks, strict=True)):
        try:
            picture = read_crop(folder / crop)
        except DataError as error:
            unreadable.append(str(error))
            continue
        values.append(describe(picture, points))
        places.append(place)
        if damage and place % DAMAGED_EVERY == 0:
            drawn = Augmentation.draw("strong", np.random.default_rng([seed, place]))
            # The whole crop as it lies, so that the landmarks still do.
            drawn = replace(drawn, flip=False, window=Augmentation().window)
            changes.append(describe(drawn.apply(picture, picture.shape[0]), points) - values[-1])
        progress(place + 1, len(table))
    if len(table) and not places:
        cause = f"none of {len(table)} crops could be read"
        raise DataError(cause, path=folder, advice="Run 'torchfakes prepare' again.")
    return Described(table.iloc[places], _stacked(values), _stacked(changes), tuple(unreadable))


def fit_texture(described: Described, network_weight: float = 0.0) -> tuple[Texture, tuple[str, ...]]:
    """Fit a texture.

    Args:
        described: the training crops, damaged ones too.
        network_weight: see ``Texture``.

    Returns:
        The texture, and the names of its kinds.

    Raises:
        DataError: there are no reals or no fakes among the videos.
    """
    videos, means, stills = _by_video(described)
    kinds = _kinds(videos)
    real = sorted({str(kind) for kind, label in zip(kinds, videos["label"], strict=True) if label == REAL})
    fake = sorted({str(kind) for kind, label in zip(kinds, videos["label"], strict=True) if label == FAKE})
    if not real or not fake:
        raise DataError(
            f"a texture needs real and fake videos, and there are none that are {'fake' if real else 'real'}"
        )
    centres = {kind: means[kinds == kind].mean(0) for kind in real}
    scatter = [means[kinds == kind] - centres[kind] for kind in real]
    row_of = {str(video): row for row, video in enumerate(videos["video"]) if videos["label"].iloc[row] == REAL}
    for kind in fake:
        rows = np.flatnonzero(kinds == kind)
        pairs = [(row, row_of[source]) for row in rows if (source := str(videos["source"].iloc[row])) in row_of]
        if 2 * len(pairs) >= len(rows):
            differences = np.stack([means[own] - means[original] for own, original in pairs])
            known = np.mean([centres[kinds[original]] for _, original in pairs], axis=0)
            centres[kind] = known + differences.mean(0)
            scatter.append(differences - differences.mean(0))
        else:
            centres[kind] = means[rows].mean(0)
            scatter.append(means[rows] - centres[kind])
    if len(stills):
        scatter.append(stills - stills.mean(0))
    spread = np.concatenate(scatter)
    covariance = spread.T @ spread / len(spread)
    if len(described.changes):
        changes = described.changes.astype(np.float64)
        covariance += DAMAGE * (changes.T @ changes) / len(changes)
    covariance[np.diag_indices(LENGTH)] += RIDGE
    middle = np.mean(list(centres.values()), axis=0)
    offset = np.stack([centres[kind] - middle for kind in (*real, *fake)])
    directions = np.linalg.solve(covariance, offset.T).T / TEMPERATURE
    constants = -(directions * (offset / 2 + middle)).sum(1)
    typical = np.mean([centres[kind] for kind in real], axis=0)
    texture = Texture(
        directions=directions.astype(np.float32),
        offsets=constants.astype(np.float32),
        typical=typical.astype(np.float32),
        fakes=len(fake),
        network_weight=network_weight,
    )
    return texture, (*real, *fake)


def _by_video(described: Described) -> tuple[pd.DataFrame, Values, Values]:
    """One row a video, its mean, and the real faces of single pictures (of none, if there is nothing else)."""
    table, values = described.table.reset_index(drop=True), described.values.astype(np.float64)
    moving = (table.groupby(_VIDEO_KEYS)["frame"].transform("nunique") > 1).to_numpy()
    if not moving.any():
        moving[:] = True
    groups = table[moving].groupby(_VIDEO_KEYS, sort=True)
    videos = groups[["source"]].first().reset_index()
    means = np.stack([values[rows.to_numpy()].mean(0) for rows in groups.groups.values()])
    return videos, means, values[~moving & (table["label"] == REAL).to_numpy()]


def _kinds(videos: pd.DataFrame) -> NDArray[np.str_]:
    """The kind of each video: its method where enough videos have it, else all others of its label."""
    counts = videos.groupby(["label", "method"])["video"].transform("size")
    return np.where(counts >= KIND_VIDEOS, videos["label"] + ":" + videos["method"], videos["label"] + ":other").astype(
        str
    )


def _stacked(values: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(values) if values else np.zeros((0, LENGTH), np.float32)
