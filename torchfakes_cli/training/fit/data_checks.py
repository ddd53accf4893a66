"""Checks for what would make a training worthless, before it starts and while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import FAKE, REAL, SPLITS, TEST, VAL
from torchfakes_cli.training.crops.manifest import known_pictures
from torchfakes_cli.training.evaluate.metrics import MIN_GROUPS
from torchfakes_cli.training.evaluate.scores import Scores

#: If one class gets this share of all answers while both are there, the network has collapsed.
COLLAPSE = 0.98


def check_splits(table: pd.DataFrame, folder: Path) -> None:
    """Check that no group, nor an original and its fake, is in two splits, even in a manifest of other programs."""
    advice = "Run 'torchfakes prepare' again, or mend manifest.csv."
    for column, known in (("split", SPLITS), ("label", (REAL, FAKE))):
        if unknown := sorted(set(table[column]) - set(known)):
            raise DataError(f"its manifest has the unknown {column} {unknown[0]!r}", path=folder, advice=advice)
    splits = table.groupby("group")["split"].nunique()
    if len(crossing := splits[splits > 1]):
        cause = f"{len(crossing)} groups lie in more than one split, such as {crossing.index[0]!r}"
        raise DataError(cause, path=folder, advice=advice)
    split_of: Mapping[str, str] = dict(zip(table["video"], table["split"], strict=True))
    fakes = table[table["source"] != ""]
    for source, split in zip(fakes["source"], fakes["split"], strict=True):
        if split_of.get(source, split) != split:
            raise DataError(f"the original {source!r} and a fake of it lie in two splits", path=folder, advice=advice)


def check_duplicates(table: pd.DataFrame, marks: Mapping[str, str], folder: Path) -> None:
    """Check that no picture lies in two splits under two names, such as footage that was uploaded twice."""
    marked = table.assign(mark=table["crop"].map(marks)).dropna(subset="mark").drop_duplicates(["mark", "split"])
    crossing = marked[marked.duplicated("mark", keep=False)]
    if len(crossing):
        first, second = crossing.loc[crossing["mark"] == crossing["mark"].iloc[0], "crop"].tolist()[:2]
        cause = f"{crossing['mark'].nunique()} crops lie in more than one split, such as {first} and {second}"
        advice = "Their videos hold the same footage: give these one group and run 'torchfakes prepare' again."
        raise DataError(cause, path=folder, advice=advice)


def check_validation(table: pd.DataFrame, folder: Path) -> str:
    """Return a warning if there are too few people for meaningful figures, else an empty string.

    Raises:
        DataError: one class is missing: epochs can't be compared.
    """
    videos, groups = (table.groupby("label")[name].nunique() for name in ("video", "group"))
    reals, fakes = int(videos.get(REAL, 0)), int(videos.get(FAKE, 0))
    if not reals or not fakes:
        cause = f"its validation split holds {reals} real and {fakes} fake videos with sharp faces"
        raise DataError(cause, path=folder, advice="Both are needed to choose the best epoch: prepare more footage.")
    if groups.min() >= MIN_GROUPS:
        return ""
    return (
        f"validation has only {reals} real videos of {groups[REAL]} groups and {fakes} fake ones of {groups[FAKE]}: "
        "its figures are vague, and the best epoch is chosen partly by chance"
    )


def check_stills(left_out: pd.DataFrame) -> str:
    """Return a warning if rows that are left out of validation and test are of stills, else an empty string."""
    splits = left_out.loc[left_out["still"], "split"].tolist()
    if not splits:
        return ""
    val, test = splits.count(VAL), splits.count(TEST)
    return f"left out, since there are videos in their splits: {val} validation and {test} test crops of stills"


def check_overlap(table: pd.DataFrame, marks: Mapping[str, str], training: Mapping[str, object]) -> str:
    """Return a warning if the start or the teacher was trained on validation or test crops, else an empty string."""
    held_out = [marks[crop] for crop in table[table["split"] != "train"]["crop"] if crop in marks]
    known = known_pictures(training, held_out)
    if not known:
        return ""
    return (
        f"the start or the teacher was trained on at least {known} of the {len(held_out)} validation and test crops: "
        "figures on them will be too good"
    )


def collapse_warning(scores: Scores) -> str:
    """A warning if nearly all validation faces get the same answer, else an empty string."""
    share = max(scores.called_fake, 1 - scores.called_fake)
    if share < COLLAPSE:
        return ""
    answer = "fake" if scores.called_fake > 0.5 else "real"
    return (
        f"the network calls {share:.0%} of the validation faces {answer}: it may have collapsed to one class. "
        "If that stays, check labels and blur threshold, lower the learning rate or augment less."
    )
