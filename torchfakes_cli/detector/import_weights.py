"""Import weights of InceptionResnetV1 with one logit from other projects as a torchfakes checkpoint.

Files are untrusted. PyTorch files are pickles, which can call any function; they are read with PyTorch's restricted
unpickler, which accepts only tensors and plain containers, and only after a check that the archive is one that PyTorch
writes: uncompressed, and with contents no larger than the file.

A file of weights doesn't describe its preprocessing. The statistics of its first layer reveal the range of its input;
size, margin and shape of crops must come from a preset or from the user.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import (
    Header,
    check_header,
    file_format,
    is_checkpoint,
    load_checkpoint,
    load_network,
    opened,
    save_checkpoint,
)
from torchfakes_cli.detector.detector import gives_scores
from torchfakes_cli.detector.network import ARCHITECTURE, build_network, load_weights
from torchfakes_cli.detector.preprocess import MEAN, SCALE
from torchfakes_cli.detector.registry import forget, path_of, record_checksum
from torchfakes_cli.errors import CheckpointError, OutputError, UsageError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.version import __version__

#: (mean, scale) that maps RGB values to the range from 0 to 1.
UNIT_RANGE = (0.0, 255.0)
#: Preprocessing by preset, as values of ``Header``.
PRESETS: dict[str, dict[str, Any]] = {
    # The preprocessing of its authors' page: the MTCNN box, stretched to 160 pixels and enlarged to 256.
    "origin": {
        "input_size": 256,
        "margin": 1.0,
        "crop_shape": "box",
        "crop_size": 160,
        "mean": 0.0,
        "scale": 255.0,
    },
    # The preprocessing of this program's training, with the input range of facenet-pytorch's weights.
    "standardised": {
        "input_size": 160,
        "margin": 1.3,
        "crop_shape": "square",
        "crop_size": 0,
        "mean": MEAN,
        "scale": SCALE,
    },
}
#: Key of the weights in files of the origin's format.
ORIGIN_KEY = "model_state_dict"
#: Keys of the weights in files with a training's state.
STATE_KEYS = (ORIGIN_KEY, "state_dict", "model", "net", "network", "weights")
#: Prefixes that wrappers of networks add to every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
#: Largest pickle in bytes. That of a supported network has 0.1 MiB; a training's state adds to it.
MAX_PICKLE_BYTES = 1 << 24

_SAVE_WEIGHTS = "Have its maker save the weights alone: torch.save(network.state_dict(), …)."


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
        changes: changes to the preset, by attribute of ``Header``.
        licence: license of the weights.
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
    target = path_of(name or source.stem)
    if target.exists() and not force:
        advice = "Choose another --name, or replace it with --force."
        raise OutputError("there is a detector of this name", path=target, advice=advice)
    notes: list[str] = []
    network: nn.Module
    if is_checkpoint(source):
        network, header = load_network(source)
        state = load_checkpoint(source)[0]
        header = replace(header, **PRESETS[preset] if preset else {}, name=target.stem if name else header.name)
        notes.append("its own header was kept")
    else:
        state, key = read_tensors(source)
        load_weights(network := build_network(ARCHITECTURE), state, str(source))
        settings = PRESETS[preset] if preset else _guessed_settings(key, state, notes)
        header = Header(
            name=target.stem,
            training={"source": {"file": source.name, "sha256": sha256_of(source), "url": url, "key": key}},
            licence=licence,
            created=datetime.now(UTC).date().isoformat(),
            version=__version__,
            **settings,
        )
    header = replace(header, **dict(changes or {}))
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
    forget(target)
    save_checkpoint(target, state, header, _stored_type(state))
    record_checksum(target)
    return Imported(target.stem, target, header, tuple(notes), _doubts(header, state))


def input_mean(state: Mapping[str, Tensor]) -> tuple[float, float]:
    """Estimate the mean of the training input from the first batch norm.

    The norm's running mean is the output of the first convolution for the mean input. With 32 filters over three
    colors, this can be solved for the mean colors.

    Returns:
        Mean over the colors, and the unexplained share of the running mean, from 0 to 1.
    """
    filters = state["conv2d_1a.conv.weight"].double().sum((2, 3))
    remembered = state["conv2d_1a.bn.running_mean"].double()
    if not remembered.any():
        return 0.0, 1.0  # never trained
    colors = torch.linalg.lstsq(filters, remembered[:, None]).solution[:, 0]
    unexplained = float((filters @ colors - remembered).norm() / remembered.norm())
    return float(colors.mean()), unexplained


def input_range(state: Mapping[str, Tensor]) -> str:
    """Return ``unit`` for input from 0 to 1, ``standardised`` for about −1 to 1, or an empty string if unknown."""
    mean, unexplained = input_mean(state)
    if not math.isfinite(mean) or unexplained > 0.3:
        return ""
    # Crops of faces have a mean of 80 to 150 of 255, which is 0.3 to 0.6, or −0.4 to 0.2 when standardized.
    if 0.27 <= mean <= 0.7:
        return "unit"
    return "standardised" if -0.6 <= mean <= 0.23 else ""


def _guessed_settings(key: str, state: Mapping[str, Tensor], notes: list[str]) -> dict[str, Any]:
    """Choose the preprocessing by the format of the file or by the weights, and add a note about it."""
    if key == ORIGIN_KEY:
        notes.append(f"preprocessing of the origin, whose format it is ({key!r}); --preset changes it")
        return PRESETS["origin"]
    known, settings = input_range(state), PRESETS["standardised"]
    if known == "unit":
        settings = {**settings, "mean": UNIT_RANGE[0], "scale": UNIT_RANGE[1]}
    range_from = "range from the weights" if known else "range unknown, standardised taken"
    notes.append(f"{range_from}; size and margin are a guess: correct it with --input-size and --margin")
    return settings


def _doubts(header: Header, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    known = input_range(state) if header.architecture == ARCHITECTURE else ""
    if not known or known == ("unit" if (header.mean, header.scale) == UNIT_RANGE else "standardised"):
        return ()
    words = {"unit": "values from 0 to 1", "standardised": "standardised values"}[known]
    return (f"the weights' first layer remembers {words} (mean {input_mean(state)[0]:.2f}), unlike these settings",)


def _stored_type(state: Mapping[str, Tensor]) -> torch.dtype:
    """Return the half precision type of all tensors, or float32 if they have no common one."""
    types = {tensor.dtype for tensor in state.values()}
    return types.pop() if len(types) == 1 and types <= {torch.float16, torch.bfloat16} else torch.float32


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read the weights in a PyTorch file or a safetensors file without executing code in it.

    Returns:
        Tensors by name, without prefixes of wrappers and step counters of batch norms, and their key in the file; the
        key is empty if the file has nothing but weights.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file doesn't have weights, or has more than it should.
    """
    found = file_format(path)
    if found == "safetensors":
        with opened(path) as file:
            return _weights_in(path, {name: file.get_tensor(name).clone() for name in file.keys()})  # noqa: SIM118
    if not found:
        raise CheckpointError("no file of weights, or cut short", path=path, advice="Give a .pth or a .safetensors.")
    if found == "archive":
        _check_archive(path)
    return _weights_in(path, _unpickle(path))


def _check_archive(path: Path) -> None:
    """Check that an archive is one that PyTorch writes for weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except Exception as error:
        raise CheckpointError("damaged, or cut short while it was saved", path=path) from error
    names = [record.filename for record in records]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError("a TorchScript program, not a file of weights", path=path, advice=_SAVE_WEIGHTS)
    pickles = [record for record in records if record.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("a zip archive, but no file of weights", path=path)
    if len(set(names)) != len(names):
        raise CheckpointError("holds two records of one name", path=path)
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            packed = f"{record.file_size} bytes in {record.compress_size}"
            cause = f"its record {record.filename!r} is compressed ({packed}), which PyTorch never does"
            raise CheckpointError(cause, path=path)
    claimed, size = sum(record.file_size for record in records), path.stat().st_size
    if claimed > size:
        raise CheckpointError(f"its records claim {claimed} bytes, and the file has {size}", path=path)
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError("holds far more than weights", path=path, advice=_SAVE_WEIGHTS)


def _unpickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # developer warnings about storage types
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile file can cause any error
        text = str(error)
        if "weights_only" not in text and "nsupported" not in text:
            raise CheckpointError(f"damaged, or no file of weights ({_first_line(error)})", path=path) from None
        # PyTorch's messages name the forbidden object and then explain how to allow it, which is unsafe.
        found = re.search(r"(?:GLOBAL|class) ([\w.]+)", text)
        what = f": it wants {found[1]}," if found else ","
        cause = f"holds more than weights{what} which could run code"
        raise CheckpointError(cause, path=path, advice=_SAVE_WEIGHTS) from None


def _first_line(error: Exception) -> str:
    line = " ".join(str(error).split("\n")[0].split())
    return (line if len(line) <= 120 else line[:119] + "…") or type(error).__name__


def _weights_in(path: Path, content: object) -> tuple[dict[str, Tensor], str]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__}, not a table of weights", path=path)
    key = next((key for key in STATE_KEYS if isinstance(content.get(key), Mapping)), "")
    table = content[key] if key else content
    state = {name: value for name, value in table.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        raise CheckpointError("holds no table of weights", path=path, advice=_SAVE_WEIGHTS)
    while prefix := next((each for each in PREFIXES if all(name.startswith(each) for name in state)), ""):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    for name, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise CheckpointError(f"tensor {name} is no plain table of numbers", path=path)
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, key
