"""Checks for what would make a training worthless, before it starts and while it runs."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import FAKE, REAL, SPLITS
from torchfakes_cli.training.evaluate.scores import Scores

#: One class taking this share of all answers while both are there is a collapse.
COLLAPSE = 0.98
#: A validation set is small when an AUC of ``TYPICAL_AUC`` measured on it would be known less exactly than ± this.
VAGUE = 0.15
TYPICAL_AUC = 0.8
#: Bytes from the middle of two files of equal size that are compared before the whole files.
_PROBE = 1024


def check_splits(table: pd.DataFrame, folder: Path) -> None:
    """Check that no person or footage is in two splits, regardless of the origin of the manifest.

    Raises:
        DataError: a group, or an original and its fake, lies in more than one split; or a split or label is unknown.
    """
    advice = "Run 'torchfakes prepare' again, or mend manifest.csv."
    for column, known in (("split", SPLITS), ("label", (REAL, FAKE))):
        if unknown := sorted(set(table[column]) - set(known)):
            raise DataError(f"its manifest has the unknown {column} {unknown[0]!r}", path=folder, advice=advice)
    sides = table.groupby("group")["split"].nunique()
    if len(crossing := sides[sides > 1]):
        cause = f"{len(crossing)} groups lie in more than one split, such as {crossing.index[0]!r}"
        raise DataError(cause, path=folder, advice=advice)
    split_of: Mapping[str, str] = dict(zip(table["video"], table["split"], strict=True))
    fakes = table[table["source"] != ""]
    for source, split in zip(fakes["source"], fakes["split"], strict=True):
        if split_of.get(source, split) != split:
            raise DataError(f"the original {source!r} and a fake of it lie in two splits", path=folder, advice=advice)


def check_duplicates(table: pd.DataFrame, folder: Path) -> None:
    """Make sure that no crop lies in two splits under two names, such as footage that was uploaded twice.

    Raises:
        DataError: one does.
    """
    split_of: dict[str, str] = dict(zip(table["crop"], table["split"], strict=True))
    pairs = [pair for same in _identical([*split_of], folder) if (pair := _crossing(same, split_of))]
    if pairs:
        first, second = pairs[0]
        cause = f"{len(pairs)} crops lie in more than one split, such as {first} and {second}"
        advice = "Their videos hold the same footage: give these one group and run 'torchfakes prepare' again."
        raise DataError(cause, path=folder, advice=advice)


def check_validation(table: pd.DataFrame, folder: Path) -> str:
    """Make sure that epochs can be compared.

    Args:
        table: the validation crops.
        folder: they lie in.

    Returns:
        A sentence when there are too few people for the figures to mean much, else an empty text.

    Raises:
        DataError: one class is missing.
    """
    found = table.groupby("label")["video"].nunique()
    reals, fakes = int(found.get(REAL, 0)), int(found.get(FAKE, 0))
    if not reals or not fakes:
        cause = f"its validation split holds {reals} real and {fakes} fake videos with sharp faces"
        raise DataError(cause, path=folder, advice="Both are needed to choose the best epoch: prepare more footage.")
    groups = table.groupby("label")["group"].nunique()
    doubt = 1.96 * auc_error(TYPICAL_AUC, int(groups[REAL]), int(groups[FAKE]))
    if doubt <= VAGUE:
        return ""
    low, high = max(0.0, TYPICAL_AUC - doubt), min(1.0, TYPICAL_AUC + doubt)
    return (
        f"the validation split holds only {reals} real videos of {groups[REAL]} groups and {fakes} fake ones of "
        f"{groups[FAKE]}: an AUC of {TYPICAL_AUC:.2f} on it could as well be {low:.2f} or {high:.2f}, so that the best "
        "epoch and the calibration are partly chance"
    )


def auc_error(auc: float, reals: int, fakes: int) -> float:
    """Standard error of an AUC measured on a number of independent scores (Hanley and McNeil, Radiology 143, 1982).

    Example:
        >>> round(auc_error(0.8, 50, 50), 3)
        0.045
    """
    both_fakes, both_reals = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (fakes - 1) * (both_fakes - auc**2) + (reals - 1) * (both_reals - auc**2)
    return math.sqrt(spread / (reals * fakes))


def collapse_warning(scores: Scores) -> str:
    """A sentence when nearly all validation faces get the same answer, else an empty text."""
    share = max(scores.called_fake, 1 - scores.called_fake)
    if share < COLLAPSE:
        return ""
    answer = "fake" if scores.called_fake > 0.5 else "real"
    return (
        f"the network calls {share:.0%} of the validation faces {answer}: it may have collapsed to one class. "
        "If that stays, check labels and blur threshold, lower the learning rate or augment less."
    )


def _identical(crops: Sequence[str], folder: Path) -> Iterator[list[str]]:
    """Lists of crops with the same content; each test reads only what the ones before couldn't distinguish."""
    sized: defaultdict[object, list[str]] = defaultdict(list)
    for crop in crops:
        try:
            size = (folder / crop).stat().st_size
        except OSError:
            continue  # counted when it is drawn
        if size:
            sized[size].append(crop)
    for same_size in sized.values():
        for same_middle in _told_apart(same_size, folder, whole=False):
            yield from _told_apart(same_middle, folder, whole=True)


def _told_apart(crops: Sequence[str], folder: Path, *, whole: bool) -> Iterator[list[str]]:
    if len(crops) < 2:
        return
    found: defaultdict[bytes, list[str]] = defaultdict(list)
    for crop in crops:
        try:
            with (folder / crop).open("rb") as handle:
                if whole:
                    key = hashlib.file_digest(handle, "sha256").digest()
                else:
                    handle.seek((folder / crop).stat().st_size // 2)
                    key = handle.read(_PROBE)
        except OSError:
            continue
        found[key].append(crop)
    yield from (same for same in found.values() if len(same) > 1)


def _crossing(crops: Sequence[str], split_of: Mapping[str, str]) -> tuple[str, str] | None:
    """Two of the crops that lie in different splits."""
    other = next((crop for crop in crops if split_of[crop] != split_of[crops[0]]), None)
    return None if other is None else (crops[0], other)
