"""Fits a texture (see ``detector.texture``) to training crops: a discriminant of all kinds of fakes and reals.

Means come from few videos, but what differs from face to face without any meaning (people, light, cameras) is learnt
from every real face at hand, single pictures among them, from the frames of one person, and from what damage does to a
crop. Where a fake's original is there, the two are compared with each other, so that neither people nor footage blur
what the manipulation changed.
Kinds of fakes that no crop is of are stood for by ones made up from the real faces (see ``made_up``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
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
from torchfakes_cli.training.fitting.made_up import FAMILIES, made_up_pairs
from torchfakes_cli.training.fitting.self_blend import Portrait
from torchfakes_cli.training.fitting.spreads import fit_spreads

Values = NDArray[np.float64]

#: Added to every direction's variance: with a few hundred videos the covariance of 2,496 values is poorly known.
#: Chosen, like the four below, by cross-validation over the groups of 195 public clips: see docs/experiments.md.
RIDGE = 0.1
#: The kinds' log-likelihoods are divided by this: with such a covariance they are far too sure of themselves.
TEMPERATURE = 7.0
#: Weight of what damage changes beside what differs from face to face.
DAMAGE = 1.4
#: Weight of what differs from frame to frame of one real person in one clip.
FRAMES = 3.0
#: Where a manipulation's changes are known from exact pairs, its kind lies so many times as far from the real ones:
#: they are small, and other kinds of fakes would outvote them.
REACH = 2.0
#: Kinds with fewer videos are taken together.
KIND_VIDEOS = 8
#: One crop in so many is damaged too and, if it is real, made up into fakes.
ALTERED_EVERY = 2
_VIDEO_KEYS = ["label", "method", "video"]
_PERSON_KEYS = [*_VIDEO_KEYS, "face"]
#: A real crop and a fake one that show the same face of the same frame.
_FACE_KEYS = ["source", "frame", "face"]


@dataclass(frozen=True, slots=True)
class Described:
    """The detail of crops.

    Attributes:
        table: the manifest's rows that could be read.
        values: a row each, see ``detector.texture.describe``.
        changes: what damage changed, for some of the crops.
        made_up: what each of ``made_up.FAMILIES`` changed, M×F×``LENGTH``, for some of the real crops.
        made_up_of: their places in the table, M.
        unreadable: why, a line for each crop that couldn't be read.
    """

    table: pd.DataFrame
    values: NDArray[np.float32]
    changes: NDArray[np.float32]
    made_up: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, len(FAMILIES), LENGTH), np.float32))
    made_up_of: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unreadable: tuple[str, ...] = ()

    def only(self, chosen: NDArray[np.bool_]) -> Described:
        """Some rows, and what was made up of them. What damage changes doesn't depend on who is shown: it stays."""
        kept = chosen[self.made_up_of]
        return Described(
            self.table[chosen],
            self.values[chosen],
            self.changes,
            self.made_up[kept],
            (np.cumsum(chosen) - 1)[self.made_up_of[kept]],
        )

    @staticmethod
    def together(several: Sequence[Described]) -> Described:
        """All rows of several."""
        starts = np.cumsum([0, *(len(each.table) for each in several)])
        return Described(
            pd.concat([each.table for each in several], ignore_index=True),
            np.concatenate([each.values for each in several]),
            np.concatenate([each.changes for each in several]),
            np.concatenate([each.made_up for each in several]),
            np.concatenate([start + each.made_up_of for start, each in zip(starts, several, strict=False)]),
        )


def describe_crops(
    table: pd.DataFrame, folder: Path, *, alter: bool = False, seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _wanted: None,
) -> Described:  # fmt: skip
    """Measure the detail of crops.

    Args:
        table: rows of a manifest.
        folder: the manifest's.
        alter: measure some of them damaged too, as strong augmentation does, and some real ones made up into fakes.
        seed: of both.
        progress: called with (crops read, crops to read).

    Raises:
        DataError: there are rows, but none could be read.
    """
    values, changes, places, unreadable = [], [], [], []
    made_up: list[NDArray[np.float32]] = []
    made_up_of = []
    real = (table["label"] == REAL).to_numpy()
    landmarks = table[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, 5, 2)
    for place, (crop, points) in enumerate(zip(table["crop"], landmarks, strict=True)):
        try:
            picture = read_crop(folder / crop)
        except DataError as error:
            unreadable.append(str(error))
            continue
        values.append(describe(picture, points))
        places.append(place)
        if alter and place % ALTERED_EVERY == 0:
            rng = np.random.default_rng([seed, place])
            drawn = Augmentation.draw("strong", rng)
            # The whole crop as it lies, so that the landmarks still do.
            drawn = replace(drawn, flip=False, window=Augmentation().window)
            changes.append(describe(drawn.apply(picture, picture.shape[0]), points) - values[-1])
            if real[place]:
                base, fakes = made_up_pairs(Portrait(picture, points), rng)
                reduced = base.landmarks.astype(np.float32)
                before = describe(base.pixels, reduced)
                made_up.append(np.stack([describe(fakes[family], reduced) - before for family in FAMILIES]))
                made_up_of.append(len(values) - 1)
        progress(place + 1, len(table))
    if len(table) and not places:
        cause = f"none of {len(table)} crops could be read"
        raise DataError(cause, path=folder, advice="Run 'torchfakes prepare' again.")
    return Described(
        table.iloc[places],
        _stacked(values, (LENGTH,)),
        _stacked(changes, (LENGTH,)),
        _stacked(made_up, (len(FAMILIES), LENGTH)),
        np.array(made_up_of, np.int64),
        tuple(unreadable),
    )


def fit_texture(described: Described, network_weight: float = 0.0) -> tuple[Texture, tuple[str, ...]]:
    """Fit a texture.

    Args:
        described: the training crops, altered ones too.
        network_weight: see ``Texture``.

    Returns:
        The texture, and the names of its kinds: those of crops, then those made up.

    Raises:
        DataError: there are no reals or no fakes among the videos.
    """
    moving = _moving(described.table)
    videos, means, stills = _by_video(described, moving)
    exact, keys = _exact_differences(described), list(videos[_VIDEO_KEYS].itertuples(index=False, name=None))
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
            roughly = [means[own] - means[original] for own, original in pairs]
            differences = np.stack(
                [exact.get(keys[own], rough) for (own, _), rough in zip(pairs, roughly, strict=True)]
            )
            known = np.mean([centres[kinds[original]] for _, original in pairs], axis=0)
            centres[kind] = known + REACH * differences.mean(0)
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
    within = _within_people(described, moving)
    if len(within):
        covariance += FRAMES * (within.T @ within) / len(within)
    covariance[np.diag_indices(LENGTH)] += RIDGE
    # Made of each real kind, so that they differ from it by the manipulation alone; together they count as one kind.
    made_up, owners = {}, [*real, *fake]
    for family, change in _made_up_changes(described, moving).items():
        for kind in real:
            made_up[f"fake:made up, {family}, of {kind}"] = centres[kind] + REACH * change
            owners.append(kind)
    kinds_found = (*real, *fake, *made_up)
    everything = np.stack([(centres | made_up)[kind] for kind in kinds_found])
    middle = everything.mean(0)
    offset = everything - middle
    typical = np.mean([centres[kind] for kind in real], axis=0)
    videos_of = {kind: means[kinds == kind] for kind in (*real, *fake)}
    spreads, surplus = fit_spreads(videos_of, owners, everything - typical, covariance, TEMPERATURE)
    directions = np.linalg.solve(covariance, offset.T).T / TEMPERATURE
    constants = -(directions * (offset / 2 + middle)).sum(1) - surplus
    constants[len(real) + len(fake) :] -= np.log(len(real))
    texture = Texture(
        directions=directions.astype(np.float32),
        offsets=constants.astype(np.float32),
        typical=typical.astype(np.float32),
        fakes=len(fake) + len(made_up),
        network_weight=network_weight,
        spreads=spreads,
    )
    return texture, kinds_found


def _by_video(described: Described, moving: NDArray[np.bool_]) -> tuple[pd.DataFrame, Values, Values]:
    """One row a video, its mean, and the real faces of single pictures (of none, if there is nothing else)."""
    table, values = described.table.reset_index(drop=True), described.values.astype(np.float64)
    groups = table[moving].groupby(_VIDEO_KEYS, sort=True)
    videos = groups[["source"]].first().reset_index()
    means = np.stack([values[rows.to_numpy()].mean(0) for rows in groups.groups.values()])
    return videos, means, values[~moving & (table["label"] == REAL).to_numpy()]


def _within_people(described: Described, moving: NDArray[np.bool_]) -> Values:
    """By how much each real face of a clip differs from the mean of that person's faces in that clip."""
    chosen = moving & (described.table["label"] == REAL).to_numpy()
    values = described.values[chosen].astype(np.float64)
    people = described.table[chosen].reset_index(drop=True).groupby(_PERSON_KEYS)
    for rows in people.groups.values():
        values[rows] -= values[rows].mean(0)
    return values


def _moving(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows are of videos; all, if there is nothing else."""
    moving = (table.groupby(_VIDEO_KEYS)["frame"].transform("nunique") > 1).to_numpy()
    return moving if moving.any() else np.ones(len(table), np.bool_)


def _exact_differences(described: Described) -> dict[tuple[Hashable, ...], Values]:
    """By how much a fake differs from its original in the same faces of the same frames, for those that share some."""
    table = described.table.assign(place=np.arange(len(described.table)))
    # A fake cut by boxes of its own need not show the same faces at the same times.
    fakes = table[(table["label"] == FAKE) & (table["boxes_from"] == "original")]
    reals = table[table["label"] == REAL].drop(columns="source").rename(columns={"video": "source"})
    pairs = fakes.merge(reals[[*_FACE_KEYS, "place"]], on=_FACE_KEYS, suffixes=("", "_original"))
    values = described.values
    return {
        key: np.mean(values[rows["place"]].astype(np.float64) - values[rows["place_original"]], axis=0)
        for key, rows in pairs.groupby(_VIDEO_KEYS)
    }


def _made_up_changes(described: Described, moving: NDArray[np.bool_]) -> dict[str, Values]:
    """What each family changes on average; videos weigh alike, and so do all of them and all single pictures."""
    of = described.table.iloc[described.made_up_of]
    in_video = moving[described.made_up_of]
    if not len(of):
        return {}
    changes = described.made_up.astype(np.float64)
    sources = [changes[~in_video].mean(0)] if not in_video.all() else []
    if in_video.any():
        own = of[in_video].reset_index(drop=True).groupby(_VIDEO_KEYS).groups
        sources.append(np.mean([changes[in_video][rows.to_numpy()].mean(0) for rows in own.values()], axis=0))
    return dict(zip(FAMILIES, np.mean(sources, axis=0), strict=True))


def _kinds(videos: pd.DataFrame) -> NDArray[np.str_]:
    """The kind of each video: its method where enough videos have it, else all others of its label."""
    counts = videos.groupby(["label", "method"])["video"].transform("size")
    return np.where(counts >= KIND_VIDEOS, videos["label"] + ":" + videos["method"], videos["label"] + ":other").astype(
        str
    )


def _stacked(values: list[NDArray[np.float32]], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.stack(values) if values else np.zeros((0, *shape), np.float32)
