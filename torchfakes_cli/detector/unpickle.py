"""Read tensors from untrusted files without executing code in them.

PyTorch files are pickles, which can call any function. They are read with PyTorch's restricted unpickler, which accepts
only tensors and plain containers, and only after a check that the archive is one that PyTorch writes: uncompressed, and
with contents no larger than the file.
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

#: Keys of the weights in files with a training's state; ``model_state_dict`` is the origin's.
STATE_KEYS = ("model_state_dict", "state_dict", "model", "net", "network", "weights")
#: Prefixes that wrappers of networks add to every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
#: Largest pickle in bytes. That of a supported network has 0.1 MiB; a training's state adds to it.
MAX_PICKLE_BYTES = 1 << 24

_SAVE_WEIGHTS = "Have its maker save the weights alone: torch.save(network.state_dict(), …)."


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read the weights in a PyTorch file or a safetensors file.

    Returns:
        Tensors by name, without prefixes of wrappers and step counters of batch norms, and their key in the file; the
        key is empty if the file has nothing but weights.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file doesn't have weights, or has more than it should.
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
    elif start[:1] != b"\x80":  # the first byte of a pickle, which PyTorch wrote without an archive before 1.6
        raise CheckpointError("no file of weights, or cut short", path=path, advice="Give a .pth or a .safetensors.")
    return _state_in(path, _unpickle(path))


def is_safetensors(path: Path) -> bool:
    """Return True if an existing file begins like a safetensors file."""
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
    claimed = sum(record.file_size for record in records)
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
        # PyTorch's messages name the forbidden object and then explain how to allow it, which is unsafe.
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
