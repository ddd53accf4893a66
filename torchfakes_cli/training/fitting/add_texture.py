"""Gives a trained detector a texture: fitted on the training crops, joined and calibrated on validation videos.

What it is worth is measured twice: the whole detector on the test groups, and the texture alone by cross-validation
over all groups, and on each kind of fake in turn after being fitted without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from torchfakes_cli import __version__
from torchfakes_cli.config import TextureConfig
from torchfakes_cli.detector.calibration import fit_platt, probability
from torchfakes_cli.detector.checkpoint import CALIBRATION, Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.network import blank_network, load_weights
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.detector.scoring import choose_device
from torchfakes_cli.detector.texture import Texture, split_texture
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import FAKE
from torchfakes_cli.training.crops.manifest import read_manifest, usable
from torchfakes_cli.training.crops.reading import recorded_margin
from torchfakes_cli.training.evaluation.calibrate import check_target
from torchfakes_cli.training.evaluation.eight_bits import measure_eight_bits
from torchfakes_cli.training.evaluation.known import TRAINED_ON, group_marks
from torchfakes_cli.training.evaluation.measure import (
    Scores,
    calibrated,
    counterparts,
    measure,
    moving_pictures,
    score_crops,
    thinned,
    video_scores,
)
from torchfakes_cli.training.evaluation.metrics import log_loss, roc_auc
from torchfakes_cli.training.evaluation.verdicts import judge_videos, verdict_counts, with_compression
from torchfakes_cli.training.fitting.guards import check_duplicates, check_splits, check_validation
from torchfakes_cli.training.fitting.texture import Described, describe_crops, fit_texture

#: Tried as the weight of the network's logit. Neither judge is ever left out.
NETWORK_WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class TextureSummary:
    """What adding a texture gave.

    Attributes:
        path: of the new checkpoint.
        kinds: of reals and fakes that were told apart.
        network_weight: that was chosen.
        before: the detector without it, on the test groups; None where there are none.
        test: the detector with it, on them.
        test_verdicts: how many real and fake test videos get which verdict, see ``verdict_counts``.
        alone: the texture alone on all groups, each judged by one fitted without it; None unless asked for.
        left_out: for each kind of fake, the video AUC of a texture that never saw any of it, nor the groups it judges.
        header: of the new checkpoint.
        warnings: all that came up.
    """

    path: str
    kinds: tuple[str, ...]
    network_weight: float
    before: Scores | None
    test: Scores | None
    test_verdicts: dict[str, dict[str, int]]
    alone: Scores | None
    left_out: dict[str, float]
    header: Header
    warnings: tuple[str, ...]


def add_texture(
    crops: Path, config: TextureConfig, progress: Callable[[str, int, int], None] = lambda _what, _done, _wanted: None
) -> TextureSummary:
    """Fit a texture and write a checkpoint that has it.

    Args:
        crops: folder written by ``prepare``.
        config: of what detector, and where to.
        progress: called with (what is done, how much of it, of how much).

    Raises:
        DataError: the crops don't suffice, or were cut with another margin than the detector wants.
        ModelNotFoundError: there is no such detector.
        CheckpointError: it can't be used.
        UsageError: there is no such device.
        OutputError: the checkpoint can't be written.
    """
    out = Path(config.out)
    check_target(out, force=config.force)
    source = find_checkpoint(config.start)
    state, parent = load_checkpoint(source)
    weights, _ = split_texture(state, str(source))
    load_weights(network := blank_network(), weights, str(source))
    device = choose_device(config.device)
    table = _readable_table(crops, parent)
    train = table[table["split"] == "train"]
    held_out, test = (moving_pictures(table[table["split"] == split]) for split in ("val", "test"))
    doubt = check_validation(held_out, crops)

    found = _described(train, crops, config, progress, "describing training crops", alter=True)
    joined: dict[str, pd.DataFrame] = {}
    described: dict[str, Described] = {}
    for split, rows in (("val", held_out), ("test", test)):
        described[split] = _described(
            rows, crops, config, progress, f"describing {split} crops", alter=config.cross_validate
        )
        joined[split] = _network_scores(network, described[split].table, crops, parent, device, progress)
    texture, kinds = fit_texture(found)
    texture = replace(texture, network_weight=_network_weight(texture, joined["val"], described["val"]))

    together = {split: _joined(texture, joined[split], described[split]) for split in joined}
    alone_header = calibrated(parent, joined["val"])
    header = calibrated(_header(config, parent, texture, kinds, train), together["val"])
    header = replace(
        header,
        network_alone={name: getattr(alone_header, name) for name in CALIBRATION},
        eight_bit=measure_eight_bits(network, parent, crops, list(joined["val"]["crop"]), config.seed),
    )
    metrics: dict[str, Any] = {"validation": asdict(measure(together["val"], interval=True))}
    before = tested = alone = None
    verdicts: dict[str, dict[str, int]] = {}
    if len(test):
        before, tested = measure(joined["test"], interval=True), measure(together["test"], interval=True)
        verdicts = verdict_counts(judge_videos(with_compression(together["test"]), header))
        metrics |= {"test": asdict(tested), "test_verdicts": verdicts}
    left_out: dict[str, float] = {}
    if config.cross_validate:
        whole = Described.together([found, *described.values()])
        alone = measure(_cross_validated(whole, config.folds, progress), interval=True)
        left_out = _each_left_out(whole, config.folds, progress)
        metrics |= {"texture alone, cross-validated": asdict(alone), "texture alone, never saw": left_out}
    header = replace(header, metrics=metrics)
    save_checkpoint(out, {**weights, **texture.tensors()}, header, next(iter(weights.values())).dtype)
    unreadable = [*found.unreadable, *(line for each in described.values() for line in each.unreadable)]
    warnings = [doubt] if doubt else []
    if unreadable:
        warnings.append(f"{len(unreadable)} crops could not be read, such as {min(unreadable)}")
    if not header.slope:
        warnings.append("scores don't tell real from fake on the validation videos: every verdict will be open")
    return TextureSummary(
        str(out), kinds, texture.network_weight, before, tested, verdicts, alone, left_out, header, tuple(warnings)
    )


def _readable_table(crops: Path, parent: Header) -> pd.DataFrame:
    table = read_manifest(crops)
    check_splits(table, crops)
    margin = recorded_margin(crops)
    if parent.crop_shape != "square" or not np.isclose(parent.margin, margin):
        cause = f"were cut as squares with the margin {margin:g}, and {parent.name} wants others"
        raise DataError(cause, path=crops, advice=f"Run 'torchfakes prepare' with --margin {parent.margin:g}.")
    flawless = table[usable(table)]
    check_duplicates(flawless, crops)
    return flawless


def _described(
    rows: pd.DataFrame, crops: Path, config: TextureConfig, progress: Callable[[str, int, int], None], what: str, *,
    alter: bool,
) -> Described:  # fmt: skip
    few = thinned(rows, config.frames_per_video)
    return describe_crops(
        few, crops, alter=alter, seed=config.seed, progress=lambda done, wanted: progress(what, done, wanted)
    )


def _network_scores(
    network: torch.nn.Module, rows: pd.DataFrame, crops: Path, header: Header, device: torch.device,
    progress: Callable[[str, int, int], None],
) -> pd.DataFrame:  # fmt: skip
    """The described rows with the network's own logits; what could be described can be read."""

    def lost(error: DataError) -> None:
        raise error

    progress("scoring", 0, len(rows))
    scored = score_crops(network, rows, crops, header, device, lost) if len(rows) else rows.assign(logit=[])
    progress("scoring", len(rows), len(rows))
    return scored


def _joined(texture: Texture, network: pd.DataFrame, described: Described) -> pd.DataFrame:
    if not len(network):
        return network
    return network.assign(logit=texture.joined(network["logit"].to_numpy(np.float32), described.values).astype(float))


def _network_weight(texture: Texture, network: pd.DataFrame, described: Described) -> float:
    """The weight that suits the validation videos best: the one of the lowest log loss after calibration."""

    def loss(weight: float) -> float:
        videos = video_scores(_joined(replace(texture, network_weight=weight), network, described))
        fake = (videos["label"] == FAKE).to_numpy()
        slope, intercept = fit_platt(videos["logit"].to_numpy(float), fake.astype(np.int64))
        chances = np.array([probability(logit, slope, intercept) for logit in videos["logit"]])
        found = log_loss(fake, chances)
        return float("inf") if found is None else found

    return min(NETWORK_WEIGHTS, key=loss)


def _header(
    config: TextureConfig, parent: Header, texture: Texture, kinds: tuple[str, ...], train: pd.DataFrame
) -> Header:
    settings = {"frames_per_video": config.frames_per_video, "seed": config.seed}
    return replace(
        parent,
        name=config.name or parent.name,
        training={
            "texture": {"kinds": list(kinds), "network_weight": texture.network_weight, "config": settings},
            TRAINED_ON: sorted(group_marks(train["group"])),
            "start": {"name": parent.name, "training": parent.training},
        },
        created=datetime.now(UTC).date().isoformat(),
        version=__version__,
    )


def _folds(table: pd.DataFrame, folds: int) -> NDArray[np.int64]:
    """The fold of each row; groups stay whole, and rows of single pictures are always fitted on (-1)."""
    moving = table.index.isin(moving_pictures(table).index)
    fold = np.full(len(table), -1, np.int64)
    rows = np.flatnonzero(moving)
    groups = table["group"].to_numpy()[rows]
    for number, (_, chosen) in enumerate(GroupKFold(min(folds, len(set(groups)))).split(rows, groups=groups)):
        fold[rows[chosen]] = number
    return fold


def _cross_validated(
    described: Described, folds: int, progress: Callable[[str, int, int], None], without: str | None = None
) -> pd.DataFrame:
    """The rows of videos with logits of textures that were fitted without their groups (and without a method)."""
    fold = _folds(described.table, folds)
    known = (described.table["method"] != without).to_numpy()
    parts = []
    for number in range(fold.max() + 1):
        judged = fold == number
        texture, _ = fit_texture(described.only(~judged & known))
        logits = texture.logits(described.values[judged]).astype(float)
        parts.append(described.table[judged].assign(logit=logits))
        progress("cross-validating", number + 1, int(fold.max()) + 1)
    return pd.DataFrame(pd.concat(parts))


def _each_left_out(described: Described, folds: int, progress: Callable[[str, int, int], None]) -> dict[str, float]:
    """Video AUC on each kind of fake, of textures fitted without it, where another kind is left to fit on."""
    moving = moving_pictures(described.table)
    methods = sorted(moving.loc[moving["label"] == FAKE, "method"].unique())
    found: dict[str, float] = {}
    for method in methods if len(methods) > 1 else ():
        videos = video_scores(_cross_validated(described, folds, progress, without=method))
        fakes = videos[(videos["label"] == FAKE) & (videos["method"] == method)]
        both = pd.concat([counterparts(videos, fakes)[0], fakes])
        auc = roc_auc((both["label"] == FAKE).to_numpy(), both["logit"])
        if auc is not None:
            found[method] = round(auc, 4)
    return found
