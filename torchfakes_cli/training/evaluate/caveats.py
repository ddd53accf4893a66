"""What a careful reader of an evaluation should know, in plain sentences."""

from __future__ import annotations

import pandas as pd

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.training.corpora import FAKE
from torchfakes_cli.training.evaluate.findings import Source
from torchfakes_cli.training.evaluate.known import fitted_groups, trained_groups

#: Below so many videos of a label, or so many groups, a set is called small.
FEW_VIDEOS = 50
FEW_GROUPS = 30

_OF_SPLITS = {
    "train": "These are training groups: the detector may know them by heart, and every figure is too good then.",
    "all": "Training groups may be among these: figures are too good where the detector was trained on this corpus.",
    "val": "Training chooses its best epoch and fits its calibration on validation groups: figures on the validation "
    "split of the detector's own training are somewhat too good.",
}


def notes_on(source: Source, header: Header, videos: pd.DataFrame, *, damaged: bool) -> tuple[str, ...]:
    """Everything worth saying about one detector on one set of crops.

    Args:
        source: the crops.
        header: of the detector.
        videos: as ``judge_videos`` gives them.
        damaged: whether robustness was measured.
    """
    notes = [_OF_SPLITS[source.split]] if source.split in _OF_SPLITS else []
    groups = videos["group"].nunique()
    if (trained := trained_groups(header, videos["group"])) and source.split != "train":
        notes.append(
            f"{header.name} was trained on groups of the same names as {trained} of these {groups}: every figure is "
            "too good."
        )
    if fitted := fitted_groups(header, videos["group"]):
        notes.append(
            f"Calibration and thresholds of {header.name} were fitted on groups of the same names as {fitted} of these "
            f"{groups}: log loss, Brier score, ECE and verdicts are too good."
        )
    if not header.calibrated_on:
        notes.append(f"{header.name} was never calibrated: probabilities, thresholds and coverage mean little.")
    fakes = int((videos["label"] == FAKE).sum())
    if min(fakes, len(videos) - fakes) < FEW_VIDEOS or groups < FEW_GROUPS:
        notes.append(
            f"The set is small ({len(videos) - fakes} real and {fakes} fake videos of {groups} groups): differences "
            "within the intervals mean nothing, and the intervals of so few groups are themselves too narrow."
        )
    if source.unreadable:
        notes.append(f"{source.unreadable} crops could not be read, such as {source.first_unreadable}")
    if source.stills:
        notes.append(
            f"{source.stills} crops of stills were left out: they would tell apart kinds of pictures, not fakes."
        )
    if unscored := int(videos["logit"].isna().sum()):
        notes.append(f"Videos without a sharp face: {unscored}. Their verdict is inconclusive, and they have no score.")
    if damaged:
        notes.append(
            "Damaged crops are scored however blurry they have become; a scan would leave the blurriest out. H.264 "
            "gets the sampled frames as one clip: they lie further apart than in a video, so it predicts less well."
        )
    return tuple(notes)
