"""Checkpoints that run code, claim too much, are cut off or fit another network.

A payload, where it ran, would only create an empty marker file.
"""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING

from tests.torture.case import Canaries, Outcome, add_case, canary_case, case

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from tests.torture.case import Writer

MEBIBYTE = 1 << 20


class Payload:
    """Whoever unpickles it creates a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self._mark), "w")


def tiny_weights() -> dict[str, torch.Tensor]:
    """The weights of a linear layer of two inputs and outputs, always the same."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(2, 2, generator=generator), "bias": torch.randn(2, generator=generator)}


# --- code in disguise


@canary_case("l_checkpoints/evil_pickle.pt", Outcome.ERROR, "a bare pickle")
def evil_pickle(place: Path, canaries: Canaries) -> None:
    place.write_bytes(pickle.dumps(Payload(canaries.payload_mark("raw"))))


@canary_case("l_checkpoints/evil_zip.pt", Outcome.ERROR, "torch's zip format; the payload in a plausible state")
def evil_zip(place: Path, canaries: Canaries) -> None:
    import torch

    torch.save({"model": {"w": torch.zeros(2)}, "meta": Payload(canaries.payload_mark("zip"))}, place)


@canary_case("l_checkpoints/evil_legacy.pt", Outcome.ERROR, "torch's format before zip")
def evil_legacy(place: Path, canaries: Canaries) -> None:
    import torch

    content = {"model": {"w": torch.zeros(2)}, "meta": Payload(canaries.payload_mark("legacy"))}
    torch.save(content, place, _use_new_zipfile_serialization=False)


@case("l_checkpoints/evil_whole_module.pt", Outcome.ERROR, "a whole network: needs any class to load")
def whole_module(place: Path) -> None:
    import torch

    torch.manual_seed(0)
    torch.save(torch.nn.Linear(2, 2), place)


@case("l_checkpoints/evil_torchscript.pt", Outcome.ERROR, "a TorchScript archive, which is code")
def torch_script(place: Path) -> None:
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(place))


# --- weights, good and bad


@case("l_checkpoints/good_tiny.pt", Outcome.OK)
def good(place: Path) -> None:
    import torch

    torch.save({"model": tiny_weights(), "epoch": 1}, place)


@case("l_checkpoints/truncated.pt", Outcome.ERROR, "killed while saving")
def truncated(place: Path) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({"model": {"weight": torch.zeros(500, 500)}}, buffer)
    place.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


@case("l_checkpoints/nan_weights.pt", Outcome.ERROR, "loads, but every score is NaN")
def nan_weights(place: Path) -> None:
    import torch

    torch.save({"model": {name: values * float("nan") for name, values in tiny_weights().items()}}, place)


@case("l_checkpoints/wrong_arch.pt", Outcome.ERROR, "another network: the keys that differ are named, shortly")
def wrong_network(place: Path) -> None:
    import torch

    torch.save({"state_dict": {"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(7)}}, place)


@case("l_checkpoints/huge_claim.pt", Outcome.ERROR, "one number, repeated by a stride of 0 to 400 GB")
def huge_claim(place: Path) -> None:
    import torch

    torch.save({"model": {"w": torch.zeros(1).expand(100_000_000_000)}}, place)


@case("l_checkpoints/zip_bomb.pt", Outcome.ERROR, "2 GB of zeros, deflated to 9 MB")
def zip_bomb(place: Path) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, buffer)
    # Higher levels of zlib take thrice as long over zeros.
    packing = zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with zipfile.ZipFile(buffer) as sound, packing as bomb:
        for name in sound.namelist():
            if name.endswith("/data/0"):
                _write_zeros(bomb, name, 2048 * MEBIBYTE)
            else:
                bomb.writestr(zipfile.ZipInfo(name), sound.read(name))


def _write_zeros(archive: zipfile.ZipFile, name: str, size: int) -> None:
    zeros = bytes(MEBIBYTE)
    with archive.open(name, "w", force_zip64=True) as file:
        for _ in range(size // MEBIBYTE):
            file.write(zeros)


# --- not checkpoints


def bytes_writer(data: bytes) -> Writer:
    """A writer of given bytes."""

    def write(place: Path) -> None:
        place.write_bytes(data)

    return write


add_case("l_checkpoints/empty.pt", Outcome.ERROR, bytes_writer(b""))
add_case("l_checkpoints/text.pt", Outcome.ERROR, bytes_writer(b"not a checkpoint\n"))
add_case(
    "l_checkpoints/huge_header.safetensors",
    Outcome.ERROR,
    bytes_writer(struct.pack("<Q", 1 << 63) + b"{}"),
    "a header of 2^63 bytes",
)
