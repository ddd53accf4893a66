"""Whether a checkpoint is what it was, and can be used."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from torchfakes_cli.detector.checkpoint import Header, load_checkpoint
from torchfakes_cli.detector.fetch import recorded_checksum, sha256_of
from torchfakes_cli.detector.imports import gives_scores
from torchfakes_cli.detector.network import blank_network, load_weights
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.detector.texture import split_texture
from torchfakes_cli.errors import ModelError


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of a checkpoint.

    Attributes:
        name: as it was asked for.
        path: of the file; None where there is none.
        header: its own; None where it can't be read.
        sha256: of the file; empty where it can't be read.
        recorded: the SHA-256 written beside it; empty without one.
        problem: why it can't be used or trusted; empty if it can.
    """

    name: str
    path: Path | None = None
    header: Header | None = None
    sha256: str = ""
    recorded: str = ""
    problem: str = ""


def verify_detector(model: str | PathLike[str]) -> Verified:
    """Compute a checkpoint's checksum anew, load its weights and score a crop.

    Args:
        model: path or name, as ``load_detector`` takes it.
    """
    name = fspath(model)
    path: Path | None = None
    header: Header | None = None
    found = recorded = problem = ""
    try:
        path = find_checkpoint(model)
        recorded, found = recorded_checksum(path) or "", sha256_of(path)
        state, header = load_checkpoint(path)
        weights, texture = split_texture(state, str(path))
        load_weights(network := blank_network(header.architecture), weights, str(path))
        if not gives_scores(network, header, texture):
            problem = "its scores are no numbers"
        elif recorded and recorded != found:
            problem = f"its SHA-256 is {found[:16]}…, but {recorded[:16]}… is recorded: it has changed since"
    except (ModelError, OSError) as error:
        problem = str(error)
    return Verified(name, path, header, found, recorded, problem)
