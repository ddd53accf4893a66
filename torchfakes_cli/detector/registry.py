"""Detectors by name: the one that ships, those in the user's models folder, and those that can be fetched.

Importing this doesn't import torch.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from torchfakes_cli.errors import ModelError, ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header

#: The detector that ships, in the folder ``weights``, what it is called, and its model card.
SHIPPED = "torchfakes.safetensors"
SHIPPED_NAME = "torchfakes"
CARD = "MODEL_CARD.md"
SUFFIX = ".safetensors"
#: Environment variable that names another models folder (a shared one, say).
FOLDER_VARIABLE = "TORCHFAKES_MODELS"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Published:
    """A detector that others publish and that is known by name.

    Attributes:
        source: where it is fetched from, as ``models fetch`` takes it.
        preset: how its crops become input, see ``import_weights.PRESETS``.
        licence: of the weights.
        about: whose it is, in a few words.
        sha256: of the file; empty where it isn't known, so that the first download decides.
    """

    source: str
    preset: str
    licence: str
    about: str
    sha256: str = ""


PUBLISHED = {
    "origin": Published(
        source="hf:spaces/aaronespasa/deepfake-detection/resnetinceptionv1_epoch_32.pth",
        preset="origin",
        licence="Apache-2.0",
        about="the TorchFakes authors' own weights, trained on FaceForensics++",
    )
}


def models_folder() -> Path:
    """Where imported and fetched detectors are kept: the platform's folder for user data, or the environment's."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("torchfakes", appauthor=False)) / "models"


def shipped_checkpoint() -> Path:
    """Path of the detector that ships.

    Raises:
        ModelNotFoundError: this installation has none.
    """
    path = Path(str(files("torchfakes_cli"))) / "weights" / SHIPPED
    if not path.is_file():
        advice = "Give one with --model, or make one with `torchfakes train`."
        raise ModelNotFoundError("no detector ships with this installation", advice=advice)
    return path


def model_card(checkpoint: Path) -> str | None:
    """The model card, in Markdown, of the detector that ships; None for another one."""
    if checkpoint.resolve() != shipped_checkpoint().resolve():
        return None
    try:
        return (checkpoint.parent / CARD).read_text(encoding="utf-8")
    except OSError:
        return None


def installed() -> dict[str, Path]:
    """The detectors in the models folder, by name."""
    found = models_folder().glob(f"*{SUFFIX}")
    return {path.stem: path for path in sorted(found) if _NAME.fullmatch(path.stem) and path.is_file()}


def place_of(name: str) -> Path:
    """Where a detector of this name goes.

    Raises:
        UsageError: nothing can be called so.
    """
    if not _NAME.fullmatch(name) or name.lower().endswith(SUFFIX):
        advice = "Use up to 64 letters, digits, dots, dashes and underscores."
        raise UsageError(f"{name!r} is no name for a detector", advice=advice)
    if name == SHIPPED_NAME:
        raise UsageError(f"{name} is the detector that ships", advice="Choose another --name.")
    return models_folder() / f"{name}{SUFFIX}"


def find_checkpoint(model: str | PathLike[str]) -> Path:
    """The checkpoint that a user means: a file that is there wins over a name.

    Args:
        model: path of a checkpoint, ``torchfakes`` for the one that ships, or name of one in the models folder.

    Raises:
        ModelNotFoundError: there is no such file and no such name.
    """
    path, name = Path(model), fspath(model)
    if path.is_file():
        return path
    if name == SHIPPED_NAME:
        return shipped_checkpoint()
    if _NAME.fullmatch(name) and (models_folder() / f"{name}{SUFFIX}").is_file():
        return models_folder() / f"{name}{SUFFIX}"
    if path.exists():
        raise ModelNotFoundError("is not a file", path=path, advice="Check the path given with --model.")
    if name in PUBLISHED:
        cause = f"the detector {name} is not on this machine yet"
        raise ModelNotFoundError(cause, advice=f"Run `torchfakes models fetch {name}`.")
    advice = "Check the path given with --model; `torchfakes models list` shows the names that are known."
    raise ModelNotFoundError("no such checkpoint, and no detector of that name", path=path, advice=advice)


@dataclass(frozen=True, slots=True)
class Verified:
    """Result of checking a checkpoint.

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
    """Compute a checkpoint's checksum, load its weights and score a crop.

    Args:
        model: path or name, as ``load_detector`` takes it.
    """
    from torchfakes_cli.detector.checkpoint import load_network
    from torchfakes_cli.detector.detector import gives_scores
    from torchfakes_cli.detector.download import recorded_checksum
    from torchfakes_cli.files import sha256_of

    name = fspath(model)
    path: Path | None = None
    header: Header | None = None
    found = recorded = problem = ""
    try:
        path = find_checkpoint(model)
        recorded, found = recorded_checksum(path) or "", sha256_of(path)
        network, header = load_network(path)
        if not gives_scores(network, header):
            problem = "its scores are no numbers"
        elif recorded and recorded != found:
            problem = f"its SHA-256 is {found[:16]}…, but {recorded[:16]}… is recorded: it has changed since"
    except (ModelError, OSError) as error:
        problem = str(error)
    return Verified(name, path, header, found, recorded, problem)
