"""Checkpoints: a safetensors file with a JSON header that holds everything needed to use the weights.

Nothing is unpickled. A file is written under a temporary name and then renamed, so that a crash leaves either the
previous checkpoint or the new one.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from torchfakes_cli.detector.network import ARCHITECTURE, Network, build_network, check_architecture, load_weights
from torchfakes_cli.detector.preprocess import MEAN, SCALE
from torchfakes_cli.errors import CheckpointError, ModelError, ModelNotFoundError
from torchfakes_cli.files import write_atomically

#: Key of our JSON in the safetensors metadata, and the version of its layout.
HEADER_KEY = "torchfakes"
#: Format of a checkpoint, and that of one with a ``coarse_weight``, whose scores earlier versions would get wrong.
FORMAT, COARSE_FORMAT = 1, 2
#: Largest accepted file in bytes, far above the size of any supported network.
MAX_BYTES = 1 << 30
MAX_HEADER_BYTES = 1 << 22
CROP_SHAPES = ("square", "box")
#: Tensors under this prefix belong to the texture model of checkpoints of torchfakes-5 and earlier and are ignored.
_TEXTURE = "texture."


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a checkpoint.

    Attributes:
        name: name of the detector, shown beside every verdict.
        architecture: name of the architecture, as ``network.build_network`` takes it.
        input_size: side of the network's input in pixels.
        margin: side of the crop divided by the longer side of the face's box.
        crop_shape: ``square`` around the longer side of the box, or ``box`` for the box stretched to a square.
        crop_size: side in pixels to which crops are resized before they are enlarged to ``input_size``, for networks
            that were trained this way; 0 for no such step.
        mean: value subtracted from RGB values (0 to 255).
        scale: divisor of RGB values after the mean is subtracted.
        coarse_weight: weight of the logit of a crop's coarse copy, which is subtracted from the crop's own, for
            ``preprocess.relative_logits``; 0 for none.
        slope: slope of the calibration, for ``calibration.probability``.
        intercept: intercept of the calibration.
        calibrated_on: footage of the calibration; empty if the detector isn't calibrated.
        fake_above: smallest probability of the verdict fake.
        real_below: a probability below this gives the verdict real.
        training: record of the training, as plain JSON.
        metrics: metrics on data that it wasn't trained on, as plain JSON.
        licence: licence of the weights; empty if unknown.
        created: date of creation in ISO format.
        version: version of torchfakes that wrote the checkpoint.
    """

    name: str
    architecture: str = ARCHITECTURE
    input_size: int = 160
    margin: float = 1.3
    crop_shape: str = "square"
    crop_size: int = 0
    mean: float = MEAN
    scale: float = SCALE
    coarse_weight: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0
    calibrated_on: str = ""
    fake_above: float = 0.5
    real_below: float = 0.5
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    created: str = ""
    version: str = ""

    @property
    def picture_size(self) -> int:
        """Side in pixels to which crops are resized first."""
        return self.crop_size or self.input_size


def save_checkpoint(
    path: Path, state: Mapping[str, Tensor], header: Header, dtype: torch.dtype = torch.float32
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: path of the file; missing folders are made.
        state: tensors from ``network.portable_state``.
        header: header of the checkpoint.
        dtype: type of the stored tensors.

    Raises:
        OutputError: the file can't be written.
        ModelError: a weight is not finite in the stored type; nothing is written.
    """
    number = COARSE_FORMAT if header.coarse_weight else FORMAT
    text = json.dumps({"format": number, **asdict(header)}, sort_keys=True)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in state.items()}
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise ModelError(f"the weights are no numbers any more ({broken[0]})", path=path)
    write_atomically(path, to_safetensors(tensors, metadata={HEADER_KEY: text}))


def load_checkpoint(path: str | PathLike[str]) -> tuple[dict[str, Tensor], Header]:
    """Read a checkpoint without executing any code in it.

    Args:
        path: path of the file.

    Returns:
        Stored tensors by name, and the header.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file isn't a torchfakes checkpoint, or is damaged.
    """
    path = Path(path)
    with opened(path) as handle:
        header = _read_header(path, handle.metadata() or {})
        # Copies, because Windows can't replace a file while it is mapped into memory.
        names = [name for name in handle.keys() if not name.startswith(_TEXTURE)]  # noqa: SIM118 - not a dictionary
        state = {name: handle.get_tensor(name).clone() for name in names}
    return state, header


def load_network(path: str | PathLike[str]) -> tuple[Network, Header]:
    """Read a checkpoint and build its network, float32 on the CPU, in evaluation mode.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: the file isn't a torchfakes checkpoint, is damaged, or its architecture needs a missing library.
    """
    state, header = load_checkpoint(path)
    # The meta device allocates no random weights. Models of timm may have buffers that checkpoints lack.
    with torch.device("cpu" if header.architecture.startswith("timm:") else "meta"):
        network = build_network(header.architecture)
    load_weights(network, state, str(path))
    return network.eval(), header


def load_header(path: Path) -> Header:
    """Read only the header of a checkpoint.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file isn't a torchfakes checkpoint, or is damaged.
    """
    with opened(path) as handle:
        return _read_header(path, handle.metadata() or {})


def is_checkpoint(path: Path) -> bool:
    """Return True for a checkpoint of this program, False for another file of weights; errors as in ``file_format``."""
    if file_format(path) != "safetensors":
        return False
    with opened(path) as handle:
        return HEADER_KEY in (handle.metadata() or {})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; translate errors in the block into errors of this package."""
    if (found := file_format(path)) != "safetensors":
        pickled = "a pickled PyTorch file, which could run code, is not loaded"
        cause = pickled if found else "not a safetensors file, or cut short"
        advice = "Only torchfakes checkpoints (.safetensors) are loaded; `torchfakes models import` makes one of it."
        raise CheckpointError(cause, path=path, advice=advice)
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            yield handle
    except (SafetensorError, OSError, ValueError, OverflowError, RecursionError, KeyError) as error:
        raise CheckpointError(f"damaged ({error})", path=path, advice="Fetch or train it again.") from error


def file_format(path: Path) -> Literal["safetensors", "archive", "pickle", ""]:
    """Return the format of a file of weights by its first bytes; empty if it is unknown.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file is too large for a detector, or can't be read.
    """
    if not path.is_file():
        cause = "is not a file" if path.exists() else "no such file"
        raise ModelNotFoundError(cause, path=path, advice="Check the path.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"too large for a detector ({size / 2**20:.0f} MiB)", path=path)
    try:
        with path.open("rb") as handle:
            start = handle.read(8)
    except OSError as error:
        raise CheckpointError(f"can't be read ({error.strerror or error})", path=path) from error
    # The eight bytes of the length are checked first, because a valid length may begin with a pickle's first byte.
    header_size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if 2 <= header_size <= min(MAX_HEADER_BYTES, size - 8):
        return "safetensors"
    # PyTorch wrote pickles without an archive before 1.6.
    return "archive" if start[:4] == b"PK\x03\x04" else "pickle" if start[:1] == b"\x80" else ""


def _read_header(path: Path, metadata: Mapping[str, str]) -> Header:
    if HEADER_KEY not in metadata:
        raise CheckpointError("has no torchfakes header", path=path, advice="It was not written by this program.")
    raw = json.loads(metadata[HEADER_KEY])
    if not isinstance(raw, dict) or raw.get("format") not in (FORMAT, COARSE_FORMAT):
        raise CheckpointError("has a header of an unknown format", path=path, advice="Update torchfakes.")
    if isinstance(alone := raw.get("network_alone"), dict):  # the calibration without the texture model, see _TEXTURE
        raw.update(alone)
    values: dict[str, Any] = {}
    for known in fields(Header):
        if known.name not in raw:
            continue
        value = raw[known.name]
        wanted = {"str": str, "int": int, "float": (int, float), "dict[str, Any]": dict}[str(known.type)]
        bad_number = isinstance(value, (int, float)) and (isinstance(value, bool) or not math.isfinite(value))
        if not isinstance(value, wanted) or bad_number:  # type: ignore[arg-type]
            raise CheckpointError(f"its header's {known.name} is {value!r}", path=path)
        values[known.name] = float(value) if known.type == "float" else value
    header = Header(**{"name": path.stem, **values})
    check_header(path, header)
    return header


def check_header(path: Path, header: Header) -> None:
    """Check that the values of a header are in range.

    Raises:
        CheckpointError: a value is out of range.
    """
    try:
        check_architecture(header.architecture)
    except ModelError as error:
        raise CheckpointError(error.cause, path=path, advice=error.advice) from error
    in_range = {
        "input_size": 75 <= header.input_size <= 1024,
        "margin": 0.5 <= header.margin <= 4,
        "crop_shape": header.crop_shape in CROP_SHAPES,
        "crop_size": header.crop_size == 0 or 20 <= header.crop_size <= header.input_size,
        "scale": header.scale > 0,
        "coarse_weight": 0 <= header.coarse_weight <= 1,
        "slope": header.slope >= 0,
        "fake_above": 0 <= header.real_below <= header.fake_above <= 1,
    }
    for name, fine in in_range.items():
        if not fine:
            raise CheckpointError(f"its header's {name} is {getattr(header, name)!r}", path=path)
