"""Gives a trained detector a texture: fitted on training and validation crops, joined with its network, calibrated.

Few videos suffice to fit it, but few don't suffice to set a bound to false alarms. So the calibration and the
thresholds come from all videos but the test ones, each judged by a texture that was fitted without its group. The
network knows the training videos by heart: there it is stood for by what it says of validation videos.

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

from torchfakes_cli import __version__
from torchfakes_cli.config import TextureConfig
from torchfakes_cli.detector.calibration import fit_platt, probability
from torchfakes_cli.detector.checkpoint import CALIBRATION, Header, load_checkpoint, save_checkpoint
from torchfakes_cli.detector.familiar import strangeness
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
from torchfakes_cli.training.evaluation.findings import Probabilities
from torchfakes_cli.training.evaluation.known import TRAINED_ON, group_marks
from torchfakes_cli.training.evaluation.measure import (
    Scores,
    calibrated,
    measure,
    moving_pictures,
    score_crops,
    thinned,
    video_scores,
)
from torchfakes_cli.training.evaluation.metrics import log_loss
from torchfakes_cli.training.evaluation.verdicts import judge_videos, verdict_counts, with_compression
from torchfakes_cli.training.fitting.cross_validation import (
    calibrated_by_others,
    cross_validated_scores,
    each_left_out,
)
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
        alone_judged: what the probabilities and verdicts of these scores are worth, likewise calibrated by other
            groups; None where there are too few.
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
    alone_judged: Probabilities | None
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
    state, joined = load_checkpoint(source)
    parent = joined.of_network()
    weights, _ = split_texture(state, str(source))
    load_weights(network := blank_network(), weights, str(source))
    device = choose_device(config.device)
    table = _readable_table(crops, parent)
    learned = table[table["split"].isin(("train", "val"))]
    test = moving_pictures(table[table["split"] == "test"])
    moving = moving_pictures(learned)
    doubt = check_validation(moving[moving["split"] == "val"], crops)

    found = _described(learned, crops, config, progress, "describing crops", alter=True)
    texture, kinds = fit_texture(found)
    judged = cross_validated_scores(found, config.folds, progress).rename(columns={"logit": "texture"})
    held_out = _network_scores(network, judged[judged["split"] == "val"], crops, parent, device, progress)
    weight = _network_weight(held_out)
    texture = replace(texture, network_weight=weight)
    alone_header = calibrated(parent, _weighed(held_out, texture=0.0))
    known = _with_stand_ins(judged[judged["split"] == "train"], held_out)
    header = _header(config, parent, texture, kinds, learned)
    header = calibrated(header, _weighed(pd.concat([known, held_out]), weight), "training and validation")
    header = replace(
        header,
        network_alone={name: getattr(alone_header, name) for name in CALIBRATION},
        eight_bit=measure_eight_bits(network, parent, crops, list(held_out["crop"]), config.seed),
    )
    metrics: dict[str, Any] = {"validation": asdict(measure(_weighed(held_out, weight), interval=True))}
    tested_crops = _described(test, crops, config, progress, "describing test crops", alter=config.cross_validate)
    before = tested = alone = alone_judged = None
    verdicts: dict[str, dict[str, int]] = {}
    if len(test):
        rows = tested_crops.table.assign(
            texture=texture.logits(tested_crops.values).astype(float), strangeness=strangeness(tested_crops.values)
        )
        rows = _network_scores(network, rows, crops, parent, device, progress)
        before, tested = (
            measure(each, interval=True) for each in (_weighed(rows, texture=0.0), _weighed(rows, weight))
        )
        verdicts = verdict_counts(judge_videos(with_compression(_weighed(rows, weight)), header))
        metrics |= {"test": asdict(tested), "test_verdicts": verdicts}
    left_out: dict[str, float] = {}
    if config.cross_validate:
        whole = Described.together([found, tested_crops])
        rows = cross_validated_scores(whole, config.folds, progress)
        alone = measure(rows, interval=True)
        alone_judged = calibrated_by_others(rows.assign(strangeness=strangeness(whole.values[rows.index])), header)
        left_out = each_left_out(whole, config.folds, progress)
        metrics |= {"texture alone, cross-validated": asdict(alone), "texture alone, never saw": left_out}
        if alone_judged is not None:
            metrics |= {"texture alone, calibrated by others": asdict(alone_judged)}
    header = replace(header, metrics=metrics)
    save_checkpoint(out, {**weights, **texture.tensors()}, header, next(iter(weights.values())).dtype)
    unreadable = [*found.unreadable, *tested_crops.unreadable]
    warnings = [doubt] if doubt else []
    if unreadable:
        warnings.append(f"{len(unreadable)} crops could not be read, such as {min(unreadable)}")
    if not header.slope:
        warnings.append("scores don't tell real from fake on those videos: every verdict will be open")
    return TextureSummary(
        str(out),
        kinds,
        texture.network_weight,
        before,
        tested,
        verdicts,
        alone,
        alone_judged,
        left_out,
        header,
        tuple(warnings),
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
    """The described rows with a column ``network``, its logits; what could be described can be read."""

    def lost(error: DataError) -> None:
        raise error

    progress("scoring", 0, len(rows))
    scored = score_crops(network, rows, crops, header, device, lost)
    progress("scoring", len(rows), len(rows))
    return scored.rename(columns={"logit": "network"})


def _weighed(rows: pd.DataFrame, network: float = 1.0, texture: float = 1.0) -> pd.DataFrame:
    """Rows with the columns ``network`` and ``texture``, and the ``logit`` that they make with these weights."""
    return rows.assign(logit=network * rows["network"] + texture * rows["texture"])


def _network_weight(rows: pd.DataFrame) -> float:
    """The weight that suits the validation videos best: the one of the lowest log loss after calibration."""

    def loss(weight: float) -> float:
        videos = video_scores(_weighed(rows, weight))
        fake = (videos["label"] == FAKE).to_numpy()
        slope, intercept = fit_platt(videos["logit"].to_numpy(float), fake.astype(np.int64))
        chances = np.array([probability(logit, slope, intercept) for logit in videos["logit"]])
        found = log_loss(fake, chances)
        return float("inf") if found is None else found

    return min(NETWORK_WEIGHTS, key=loss)


def _with_stand_ins(known: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    """Videos that the network was trained on, each with the network's logit of a validation video of its label.

    The two judges of a video are taken to be independent, its label given.
    """
    network = pd.Series(0.0, known.index)
    others = video_scores(_weighed(held_out, texture=0.0))
    for label, own in known.groupby("label"):
        logits = others.loc[others["label"] == label, "logit"].to_numpy()
        for number, (_, video) in enumerate(own.groupby(["method", "video"], sort=True)):
            network[video.index] = logits[number % len(logits)]
    return known.assign(network=network)


def _header(
    config: TextureConfig, parent: Header, texture: Texture, kinds: tuple[str, ...], learned: pd.DataFrame
) -> Header:
    settings = {"frames_per_video": config.frames_per_video, "seed": config.seed}
    return replace(
        parent,
        name=config.name or parent.name,
        training={
            "texture": {"kinds": list(kinds), "network_weight": texture.network_weight, "config": settings},
            TRAINED_ON: sorted(group_marks(learned["group"])),
            "start": {"name": parent.name, "training": parent.training},
        },
        created=datetime.now(UTC).date().isoformat(),
        version=__version__,
    )
