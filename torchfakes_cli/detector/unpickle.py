"""Tensors from files of any origin, without running anything in them.

PyTorch's own files are pickles, which can name any function to be called. They are read by PyTorch's restricted
unpickler, which knows tensors and plain containers only, and only after the archive around them proved to be what
PyTorch writes: uncompressed, and no larger inside than outside.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from torchfakes_cli.detector.checkpoint import MAX_BYTES, check_file
from torchfakes_cli.errors import CheckpointError, ModelNotFoundError

#: Under these names trainings keep the weights beside what else they keep; ``model_state_dict`` is the origin's.
STATE_KEYS = ("model_state_dict", "state_dict", "model", "net", "network", "weights")
#: Put before every name by wrappers of networks.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
#: The table of a network of ours takes 0.1 MiB of the pickle; a training's state some more.
MAX_PICKLE_BYTES = 1 << 24

_SAVE_WEIGHTS = "Have its maker save the weights alone: torch.save(network.state_dict(), …)."


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights in a file of PyTorch's or in a safetensors file.

    Returns:
        Tensors by name, without prefixes of wrappers and without batch norm's step counters, and the key under which
        they stood; empty where they are all that the file holds.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: it holds something else than weights, or more than it should.
    """
    if not path.is_file():
        found = "is not a file" if path.exists() else "no such file"
        raise ModelNotFoundError(found, path=path, advice="Check the path.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"too large for a detector ({size / 2**20:.0f} MiB)", path=path)
    try:
        with path.open("rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise CheckpointError(f"can't be read ({error.strerror or error})", path=path) from error
    if is_safetensors(path):
        return _state_in(path, _read_safetensors(path))
    if start == b"PK\x03\x04":
        _check_archive(path, size)
    elif start[:1] != b"\x80":  # of a pickle, which PyTorch wrote before 1.6 without an archive around it
        raise CheckpointError("no file of weights, or cut short", path=path, advice="Give a .pth or a .safetensors.")
    return _state_in(path, _unpickle(path))


def is_safetensors(path: Path) -> bool:
    """Whether a file that exists begins as a safetensors file does."""
    try:
        check_file(path)
    except CheckpointError:
        return False
    return True


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except Exception as error:
        raise CheckpointError(f"damaged ({_first_line(error)})", path=path) from error


def _check_archive(path: Path, size: int) -> None:
    """Refuse an archive that PyTorch wouldn't have written for weights."""
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
    claimed = sum(record.file_size for record in records)
    if claimed > size:
        raise CheckpointError(f"its records claim {claimed} bytes, and the file has {size}", path=path)
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError("holds far more than weights", path=path, advice=_SAVE_WEIGHTS)


def _unpickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about types of storage, for developers
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile file fails in whatever way
        text = str(error)
        # PyTorch's messages name what isn't allowed, and then tell how to allow it, which nobody should do.
        found = re.search(r"(?:GLOBAL|class) ([\w.]+)", text)
        if found and "nsupported" in text:
            cause = f"holds more than weights: it wants {found[1]}, which could run code"
            raise CheckpointError(cause, path=path, advice=_SAVE_WEIGHTS) from None
        if "weights_only" in text or "nsupported" in text:
            cause = "holds more than weights, which could run code"
            raise CheckpointError(cause, path=path, advice=_SAVE_WEIGHTS) from None
        raise CheckpointError(f"damaged, or no file of weights ({_first_line(error)})", path=path) from None


def _first_line(error: Exception) -> str:
    line = " ".join(str(error).split("\n")[0].split())
    return (line if len(line) <= 120 else line[:119] + "…") or type(error).__name__


def _state_in(path: Path, content: object) -> tuple[dict[str, Tensor], str]:
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
