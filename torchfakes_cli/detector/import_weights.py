"""Import weights of InceptionResnetV1 with one logit from other projects as a torchfakes checkpoint.

A file of weights doesn't describe its preprocessing. The statistics of its first layer reveal the range of its input;
size, margin and shape of crops must come from a preset or from the user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import (
    HEADER_KEY,
    Header,
    check_header,
    load_checkpoint,
    load_network,
    save_checkpoint,
)
from torchfakes_cli.detector.detector import gives_scores
from torchfakes_cli.detector.download import forget, record_checksum
from torchfakes_cli.detector.network import ARCHITECTURE, build_network, load_weights
from torchfakes_cli.detector.preprocess import MEAN, SCALE
from torchfakes_cli.detector.registry import place_of
from torchfakes_cli.detector.unpickle import is_safetensors, read_tensors
from torchfakes_cli.errors import CheckpointError, OutputError, UsageError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.version import __version__


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of crops; the attributes are those of ``Header``."""

    input_size: int = 160
    margin: float = 1.3
    crop_shape: str = "square"
    crop_size: int = 0
    mean: float = MEAN
    scale: float = SCALE


#: (mean, scale) that maps RGB values to the range from 0 to 1.
UNIT_RANGE = (0.0, 255.0)

PRESETS = {
    # The preprocessing of its authors' page: the MTCNN box, stretched to 160 pixels and enlarged to 256.
    "origin": Preprocessing(256, 1.0, "box", 160, *UNIT_RANGE),
    # The preprocessing of this program's training, with the input range of facenet-pytorch's weights.
    "standardised": Preprocessing(),
}
#: Key of the weights in files of the origin's format.
ORIGIN_KEY = "model_state_dict"


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import.

    Attributes:
        name: name of the new detector.
        path: path of the new checkpoint.
        header: header of the new checkpoint.
        notes: notes on the chosen settings, in plain sentences.
        doubts: warnings that the settings may be wrong, in plain sentences.
    """

    name: str
    path: Path
    header: Header
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


def import_weights(
    source: Path,
    name: str = "",
    *,
    preset: str | None = None,
    changes: Mapping[str, Any] | None = None,
    licence: str = "",
    url: str = "",
    force: bool = False,
) -> Imported:
    """Make a checkpoint in the models folder from a file of weights.

    Args:
        source: path of a PyTorch file (``.pth``), a safetensors file, or a torchfakes checkpoint, whose header is kept.
        name: name of the detector; empty for the name of the file.
        preset: one of ``PRESETS``; None chooses by the format of the file or by the weights.
        changes: changes to the preset, by attribute of ``Preprocessing``.
        licence: licence of the weights.
        url: address that the file was downloaded from.
        force: replace a detector of this name.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file doesn't have such weights, or their scores aren't finite.
        UsageError: the name or the preprocessing is invalid.
        OutputError: there is a detector of this name, or the checkpoint can't be written.
    """
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", advice=f"Choose one of {', '.join(PRESETS)}.")
    place = place_of(name or source.stem)
    if place.exists() and not force:
        advice = "Choose another --name, or replace it with --force."
        raise OutputError("there is a detector of this name", path=place, advice=advice)
    notes: list[str] = []
    network: nn.Module
    if source.is_file() and _is_own(source):
        network, own = load_network(source)
        state = load_checkpoint(source)[0]
        header = replace(own, **asdict(PRESETS[preset])) if preset else own
        header = replace(header, name=place.stem if name else own.name, **dict(changes or {}))
        notes.append("its own header was kept")
    else:
        state, key = read_tensors(source)
        load_weights(network := build_network(ARCHITECTURE), state, str(source))
        chosen, why = _chosen(preset, key, state)
        notes += why
        header = Header(
            name=place.stem,
            training={"source": {"file": source.name, "sha256": sha256_of(source), "url": url, "key": key}},
            licence=licence,
            created=datetime.now(UTC).date().isoformat(),
            version=__version__,
            **{**asdict(chosen), **dict(changes or {})},
        )
    try:
        check_header(source, header)
    except CheckpointError as error:
        raise UsageError(error.cause.replace("its header's ", "")) from error
    if not gives_scores(network, header):
        raise CheckpointError("its scores are no numbers", path=source, advice="It is damaged: fetch it again.")
    if not header.calibrated_on:
        notes.append(
            "not calibrated: p_fake is the plain sigmoid of the logit, a video is called "
            f"fake from {header.fake_above:g} and real below {header.real_below:g}; "
            "`torchfakes evaluate FOLDER --calibrate FILE` fits both"
        )
    forget(place)
    save_checkpoint(place, state, header, _stored_type(state))
    record_checksum(place)
    return Imported(place.stem, place, header, tuple(notes), _doubts(header, state))


def input_mean(state: Mapping[str, Tensor]) -> tuple[float, float]:
    """Estimate the mean of the training input from the first batch norm.

    The norm's running mean is the output of the first convolution for the mean input. With 32 filters over three
    colours, this can be solved for the mean colours.

    Returns:
        Mean over the colours, and the unexplained share of the running mean, from 0 to 1.
    """
    filters = state["conv2d_1a.conv.weight"].double().sum((2, 3))
    remembered = state["conv2d_1a.bn.running_mean"].double()
    if not remembered.any():
        return 0.0, 1.0  # never trained
    colours = torch.linalg.lstsq(filters, remembered[:, None]).solution[:, 0]
    unexplained = float((filters @ colours - remembered).norm() / remembered.norm())
    return float(colours.mean()), unexplained


def told_range(state: Mapping[str, Tensor]) -> str:
    """Return ``unit`` for input from 0 to 1, ``standardised`` for about −1 to 1, or an empty string if unknown."""
    mean, unexplained = input_mean(state)
    if not math.isfinite(mean) or unexplained > 0.3:
        return ""
    # Crops of faces have a mean of 80 to 150 of 255, which is 0.3 to 0.6, or −0.4 to 0.2 when standardised.
    if 0.27 <= mean <= 0.7:
        return "unit"
    return "standardised" if -0.6 <= mean <= 0.23 else ""


def _chosen(preset: str | None, key: str, state: Mapping[str, Tensor]) -> tuple[Preprocessing, list[str]]:
    if preset is not None:
        return PRESETS[preset], []
    if key == ORIGIN_KEY:
        return PRESETS["origin"], [f"preprocessing of the origin, whose format it is ({key!r}); --preset changes it"]
    told, chosen = told_range(state), PRESETS["standardised"]
    if told == "unit":
        chosen = replace(chosen, mean=UNIT_RANGE[0], scale=UNIT_RANGE[1])
    range_from = "range from the weights" if told else "range unknown, standardised taken"
    guess = f"{range_from}; size and margin are a guess: correct it with --input-size and --margin if you know better"
    return chosen, [guess]


def _doubts(header: Header, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    told = told_range(state) if header.architecture == ARCHITECTURE else ""
    if not told or told == ("unit" if (header.mean, header.scale) == UNIT_RANGE else "standardised"):
        return ()
    words = {"unit": "values from 0 to 1", "standardised": "standardised values"}[told]
    return (f"the weights' first layer remembers {words} (mean {input_mean(state)[0]:.2f}), unlike these settings",)


def _is_own(source: Path) -> bool:
    """Return True for a torchfakes checkpoint."""
    if not is_safetensors(source):
        return False
    with safe_open(source, framework="pt", device="cpu") as file:
        return HEADER_KEY in (file.metadata() or {})


def _stored_type(state: Mapping[str, Tensor]) -> torch.dtype:
    """Return the half precision type of all tensors, or float32 if they have no common one."""
    types = {tensor.dtype for tensor in state.values()}
    return types.pop() if len(types) == 1 and types <= {torch.float16, torch.bfloat16} else torch.float32
