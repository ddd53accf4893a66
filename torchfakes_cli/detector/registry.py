"""Registry of detectors: the shipped one, those in the user's models folder, and those that can be downloaded.

This module doesn't import torch.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike, fspath
from pathlib import Path

import platformdirs

from torchfakes_cli.errors import ModelError, ModelNotFoundError, OutputError, UsageError
from torchfakes_cli.files import sha256_of, write_atomically

#: File of the shipped detector in the folder ``weights``, its name, and its model card.
SHIPPED = "torchfakes.safetensors"
SHIPPED_NAME = "torchfakes"
CARD = "MODEL_CARD.md"
SUFFIX = ".safetensors"
#: Environment variable with the path of another models folder, such as a shared one.
FOLDER_VARIABLE = "TORCHFAKES_MODELS"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Published:
    """Detector published by another project, known by name.

    Attributes:
        source: source of the download, as ``models fetch`` takes it.
        preset: name of its preprocessing in ``import_weights.PRESETS``.
        licence: license of the weights.
        about: description with its authors, in a few words.
        sha256: checksum of the file; empty if unknown, in which case that of the first download is recorded.
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
    """Return the folder of imported detectors: that of the environment variable, or the platform's for user data."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("torchfakes", appauthor=False)) / "models"


def shipped_checkpoint() -> Path:
    """Return the path of the shipped detector.

    Raises:
        ModelNotFoundError: this installation has none.
    """
    path = Path(str(files("torchfakes_cli"))) / "weights" / SHIPPED
    if not path.is_file():
        advice = "Give one with --model, or make one with `torchfakes train`."
        raise ModelNotFoundError("no detector ships with this installation", advice=advice)
    return path


def model_card(checkpoint: Path) -> str | None:
    """Return the Markdown model card of the shipped detector; None for other detectors."""
    if checkpoint.resolve() != shipped_checkpoint().resolve():
        return None
    try:
        return (checkpoint.parent / CARD).read_text(encoding="utf-8")
    except OSError:
        return None


def installed() -> dict[str, Path]:
    """Return the paths of the detectors in the models folder, by name."""
    found = {path.stem: path for path in sorted(models_folder().glob(f"*{SUFFIX}")) if path.is_file()}
    # No file in this folder can pass for the detector that ships.
    return {name: path for name, path in found.items() if _NAME.fullmatch(name) and not _is_shipped(name)}


def _is_shipped(name: str) -> bool:
    return name.lower() == SHIPPED_NAME  # some file systems ignore case


def path_of(name: str) -> Path:
    """Return the path of a new detector with this name.

    Raises:
        UsageError: the name is invalid or reserved.
    """
    if not _NAME.fullmatch(name) or name.lower().endswith(SUFFIX):
        advice = "Use up to 64 letters, digits, dots, dashes and underscores."
        raise UsageError(f"{name!r} is no name for a detector", advice=advice)
    if _is_shipped(name):
        raise UsageError(f"{name} is the detector that ships", advice="Choose another --name.")
    return models_folder() / f"{name}{SUFFIX}"


def remove_detector(name: str) -> Path:
    """Delete a detector in the models folder and its recorded checksum; return its former path.

    Raises:
        UsageError: the detector ships with this package.
        ModelNotFoundError: the models folder has no such detector.
        OutputError: the file can't be deleted.
    """
    if _is_shipped(name):
        raise UsageError(f"{name} ships with torchfakes and can't be removed")
    path = installed().get(name)
    if path is None:
        advice = "`torchfakes models list` shows the known names."
        raise ModelNotFoundError(f"there is no detector {name!r} in {models_folder()}", advice=advice)
    try:
        forget(path)
    except OSError as error:
        raise OutputError(f"can't be deleted: {error.strerror or error}", path=path) from error
    return path


def checksum_file(path: Path) -> Path:
    """Return the path of the file with the recorded SHA-256 of another file."""
    return path.with_name(path.name + ".sha256")


def recorded_checksum(path: Path) -> str | None:
    """Return the SHA-256 recorded beside a file; None if there is none."""
    try:
        words = checksum_file(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words else None


def record_checksum(path: Path) -> None:
    """Record the SHA-256 of a file beside it; an existing record is kept.

    Raises:
        OutputError: the folder can't be written.
    """
    if recorded_checksum(path) is None:
        write_atomically(checksum_file(path), f"{sha256_of(path)}  {path.name}\n")


def forget(path: Path) -> None:
    """Delete a file and its recorded checksum, if they exist."""
    for old in (path, checksum_file(path)):
        old.unlink(missing_ok=True)


def find_checkpoint(model: str | PathLike[str] | None) -> Path:
    """Return the path of a checkpoint given by path or name; None gives the shipped one.

    ``torchfakes`` is always the shipped detector; otherwise an existing file takes precedence over a name.

    Args:
        model: path of a checkpoint, or name of one in the models folder; ``torchfakes`` or None for the shipped one.

    Raises:
        ModelNotFoundError: there is no such file and no such name.
    """
    name = SHIPPED_NAME if model is None else fspath(model)
    if name == SHIPPED_NAME:
        return shipped_checkpoint()
    path = Path(name)
    if path.is_file():
        return path
    if found := installed().get(name):
        return found
    advice = "Check the path given with --model, --weights or --teacher"
    if path.exists():
        raise ModelNotFoundError("is not a file", path=path, advice=f"{advice}.")
    if name in PUBLISHED:
        cause = f"the detector {name} is not on this machine yet"
        raise ModelNotFoundError(cause, advice=f"Run `torchfakes models fetch {name}`.")
    advice += "; `torchfakes models list` shows the known names."
    raise ModelNotFoundError("no such checkpoint, and no detector of that name", path=path, advice=advice)


@dataclass(frozen=True, slots=True)
class Verified:
    """Result of checking a checkpoint.

    Attributes:
        name: name or path as given.
        path: path of the file; None if there is none.
        sha256: checksum of the file; empty if it can't be read.
        recorded: checksum recorded beside the file; empty without one.
        problem: why the checkpoint can't be used or trusted; empty if it can.
    """

    name: str
    path: Path | None = None
    sha256: str = ""
    recorded: str = ""
    problem: str = ""


def verify_detector(model: str | PathLike[str]) -> Verified:
    """Check a checkpoint: compare its checksum, load its weights and score a crop.

    Args:
        model: path or name, as ``load_detector`` takes it.
    """
    from torchfakes_cli.detector.checkpoint import load_network
    from torchfakes_cli.detector.detector import gives_scores

    name = fspath(model)
    path: Path | None = None
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
    return Verified(name, path, found, recorded, problem)
