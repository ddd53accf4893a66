"""What a training starts from: a network, and what its checkpoints will say of themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchfakes_cli import __version__
from torchfakes_cli.config import TrainConfig
from torchfakes_cli.detector.checkpoint import Header, load_checkpoint
from torchfakes_cli.detector.download import load_vggface2
from torchfakes_cli.detector.network import build_network, load_weights
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.crops.reading import recorded_margin
from torchfakes_cli.training.evaluation.known import TRAINED_ON, group_marks
from torchfakes_cli.training.fitting.localise import Localising
from torchfakes_cli.training.fitting.state import LOCAL

#: Subtracted from and dividing RGB values for values from 0 to 1.
UNIT_MEAN, UNIT_SCALE = 0.0, 255.0


def starting_point(config: TrainConfig, folder: Path, groups: Iterable[str]) -> tuple[nn.Module, Header]:
    """The network to train, and the header of its checkpoints.

    Args:
        config: of the training.
        folder: of its crops.
        groups: that it learns from.

    Raises:
        DataError: the crops were cut with another margin than the start was trained on.
        ModelError: the start can't be loaded.
    """
    torch.manual_seed(config.seed)
    network: nn.Module = build_network(dropout=config.dropout)
    parent = None
    if config.start == "vggface2":
        load_vggface2(network)
    elif config.start != "scratch":
        state, parent = load_checkpoint(find_checkpoint(config.start))
        load_weights(network, state, config.start)
    if config.mask_loss:
        plain, network = network.state_dict(), training_network(config)
        network.load_state_dict(plain, strict=False)
    return network, _first_header(config, recorded_margin(folder), parent, groups)


def training_network(config: TrainConfig) -> nn.Module:
    """A network with random weights, as a training needs it."""
    return Localising(config.dropout) if config.mask_loss else build_network(dropout=config.dropout)


def _first_header(config: TrainConfig, margin: float, parent: Header | None, groups: Iterable[str]) -> Header:
    """The header of this training's checkpoints; what the start was made for stays so.

    Raises:
        DataError: the crops were cut with another margin than the start was trained on.
    """
    if parent is not None and not math.isclose(parent.margin, margin):
        cause = f"was trained on crops with the margin {parent.margin:g}, and these have {margin:g}"
        raise DataError(cause, path=config.start, advice=f"Run 'torchfakes prepare' with --margin {parent.margin:g}.")
    # What decides the result is told, not where this machine keeps its files.
    training: dict[str, Any] = {"config": {k: v for k, v in asdict(config).items() if k not in (*LOCAL, "start")}}
    training[TRAINED_ON] = sorted(group_marks(groups))
    if parent is None:
        training["start"] = config.start
    else:
        training["start"] = {"name": parent.name, "training": parent.training}
    header = Header(
        name=config.name,
        margin=margin,
        training=training,
        version=__version__,
        created=datetime.now(UTC).date().isoformat(),
    )
    if parent is not None:
        same = {name: getattr(parent, name) for name in ("input_size", "crop_size", "mean", "scale")}
        header = replace(header, **same)
    elif config.unit_range:
        header = replace(header, mean=UNIT_MEAN, scale=UNIT_SCALE)
    return header if config.input_size is None else replace(header, input_size=config.input_size, crop_size=0)
