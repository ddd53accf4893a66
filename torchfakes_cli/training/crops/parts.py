"""State of a folder of crops on disk, from which an interrupted or later run continues."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.files import try_lock, write_atomically
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora import SPLITS, SourceVideo
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.crops.manifest import MANIFEST_NAME, SETTINGS_NAME

FORMAT_VERSION = 2
REPORT_NAME, SHEET_NAME = "report.md", "contact_sheet.jpg"
PARTS_NAME = "parts"
_LOCK_NAME = "lock"
#: Settings that may rise within one folder: crops below are then marked, not extracted again.
_FLOORS = ("min_face", "confidence")


@dataclass(frozen=True, slots=True)
class Part:
    """Result of one file.

    Attributes:
        video: name of the file.
        split: split of its crops.
        group: group of the file.
        identity: text that changes when the part is out of date.
        folder: folder of its crops below the manifest's; empty without crops.
        reason: reason for no crops; empty with crops.
        unchanged: number of faces left out because they equal the original's.
        damaged: number of samples left out because the decoder concealed errors in them.
        warnings: warnings about the file and its decoding.
        rows: for each crop its cells of the manifest by column.
    """

    video: str
    split: str
    group: str
    identity: str
    folder: str = ""
    reason: str = ""
    unchanged: int = 0
    damaged: int = 0
    warnings: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


def identity(video: SourceVideo, original: SourceVideo | None, split: str) -> str:
    """Return a text for the state of a file and its original, and what is known of them."""
    status = [file.path.stat() for file in (video, original) if file is not None]
    stamps = [f"{each.st_size}@{each.st_mtime_ns}" for each in status]
    return " ".join([split, video.label, ascii(video.method), ascii(video.source), *stamps])


@contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Lock a folder of crops against other runs; it is made if it doesn't exist.

    Raises:
        DataError: it holds something else.
        OutputError: another run is writing there.
        OSError: it can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A run that was killed at its very beginning has left no more than the folder of the parts.
    if not (out / SETTINGS_NAME).is_file() and any(path.name != PARTS_NAME for path in out.iterdir()):
        raise DataError(
            "is not empty and was not made by prepare", path=out, advice="Choose another --output, or empty it first."
        )
    (out / PARTS_NAME).mkdir(exist_ok=True)
    lock = try_lock(out / PARTS_NAME / _LOCK_NAME)
    if lock is None:
        raise OutputError("another run is writing there", path=out, advice="Wait for it, or choose another --output.")
    try:
        yield
    finally:
        lock.release()


def claim(out: Path, corpus: Path, config: PrepareConfig, lists: Sequence[Path]) -> FaceConfig:
    """Prepare a locked folder for crops with these settings, and remove what a killed run left unfinished.

    Args:
        out: folder of the crops.
        corpus: folder of the corpus.
        config: settings of this run.
        lists: files that decide the splits.

    Returns:
        Face settings that all crops of the folder share. Smallest face and confidence may be below those of this run:
        crops in between are marked.

    Raises:
        DataError: it holds crops with other settings, and ``config.force`` isn't set.
        OSError: it can't be written.
    """
    path = out / SETTINGS_NAME
    wanted = settings(corpus, config, lists)
    faces = config.faces
    parts = out / PARTS_NAME
    if config.force:
        for name in SPLITS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (MANIFEST_NAME, REPORT_NAME, SHEET_NAME):
            (out / name).unlink(missing_ok=True)
    elif path.is_file():
        before = _recorded_settings(path)
        changed = [
            f"{name} {before.get(name)} → {value}"
            for name, value in wanted.items()
            if before.get(name) != value and not (name in _FLOORS and name in before and before[name] < value)
        ]
        if changed:
            raise DataError(
                f"holds crops made with other settings: {', '.join(changed)}",
                path=out,
                advice="Choose another --output, or start over with --force.",
            )
        faces = replace(faces, **{name: before[name] for name in _FLOORS})
    for left in (*parts.glob("*.tmp"), *(parts.glob("*.json") if config.force else ())):
        left.unlink()
    if config.force or not path.is_file():
        write(out, SETTINGS_NAME, json.dumps({"settings": wanted}, indent=2).encode())
    return faces


def settings(corpus: Path, config: PrepareConfig, lists: Sequence[Path]) -> dict[str, Any]:
    """Return the settings that must not change within one folder of crops."""
    split = config.split if config.split == "groups" else "official" if config.split.startswith("official") else "table"
    if lists:
        split += f" {blake2b(b''.join(path.read_bytes() for path in lists), digest_size=4).hexdigest()}"
    return {
        "format": FORMAT_VERSION,
        "corpus": str(corpus.resolve()),
        "frames_per_video": config.frames_per_video,
        "min_face": config.faces.min_face,
        "confidence": config.faces.confidence,
        "margin": config.faces.margin,
        "image_format": config.image_format,
        "size": config.size,
        "split": split,
        "val": config.val,
        "test": config.test,
        "seed": config.seed,
    }


def _recorded_settings(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("is damaged", path=path, advice="Delete the folder, or choose another --output.") from error


def write(out: Path, name: str, data: bytes) -> None:
    """Write a file of the folder atomically; what a killed run leaves unfinished is in the folder of the parts."""
    write_atomically(out / name, data, out / PARTS_NAME / f"{Path(name).name}.tmp")


def write_part(out: Path, part: Part) -> None:
    """Write the result of a file; only then does it count as done."""
    write(out, f"{PARTS_NAME}/{slug(part.video)}.json", json.dumps(asdict(part)).encode())


def read_parts(out: Path) -> dict[str, Part]:
    """Read the results of all finished files by name; parts that are damaged or lack crops are removed."""
    parts = {}
    for path in sorted((out / PARTS_NAME).glob("*.json")):
        try:
            values = json.loads(path.read_bytes())
            part = Part(**{**values, "warnings": tuple(values["warnings"]), "rows": tuple(values["rows"])})
            folder = out / part.folder
            found = {crop.name for crop in folder.iterdir()} if part.folder else set()
            if found == {row["crop"].rpartition("/")[2] for row in part.rows}:
                parts[part.video] = part
                continue
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            pass
        path.unlink()
    return parts


def drop_part(out: Path, part: Part) -> None:
    """Remove the result of a file; its crops become strays."""
    (out / PARTS_NAME / f"{slug(part.video)}.json").unlink(missing_ok=True)


def drop_strays(out: Path, parts: Mapping[str, Part]) -> None:
    """Remove crops that no part lists: of an interrupted run, or of a file that has moved to another split."""
    known = {part.folder for part in parts.values()}
    for split in SPLITS:
        for folder in (out / split).glob("*/*/*/"):
            if folder.relative_to(out).as_posix() not in known:
                shutil.rmtree(folder)
