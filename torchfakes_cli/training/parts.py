"""What a run of ``prepare`` leaves behind, so that the next one goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torchfakes_cli.config import PrepareConfig
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import SPLITS, SourceVideo
from torchfakes_cli.training.extract import slug
from torchfakes_cli.training.manifest import MANIFEST_NAME

FORMAT_VERSION = 1
SETTINGS_NAME, REPORT_NAME, PARTS_NAME = "prepare.json", "report.md", "parts"


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one file.

    Attributes:
        video: its name.
        split: where its crops are.
        group: which must stay there.
        identity: everything that makes the part out of date if it changes.
        folder: of its crops, below the manifest's; empty if there are none.
        reason: why there are none; empty if there are.
        unchanged: faces left out since they equal the original's.
        warnings: of the file and its decoder.
        rows: cells by column for each crop.
    """

    video: str
    split: str
    group: str
    identity: str
    folder: str = ""
    reason: str = ""
    unchanged: int = 0
    warnings: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


def identity(video: SourceVideo, original: SourceVideo | None, split: str) -> str:
    """Tells the state of a file, its original and its place in the corpus from any other state."""
    stamps = []
    for file in (video, original):
        if file is not None:
            status = file.path.stat()
            stamps.append(f"{status.st_size}@{status.st_mtime_ns}")
    return " ".join([split, video.label, ascii(video.method), ascii(video.group), ascii(video.source), *stamps])


def claim(out: Path, corpus: Path, config: PrepareConfig) -> None:
    """Make a folder ready for crops that are cut as ``config`` says.

    Raises:
        DataError: it holds something else, or crops that were cut otherwise, and ``config.force`` isn't set.
        OSError: it can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / SETTINGS_NAME
    wanted = settings(corpus, config)
    if path.is_file():
        _check(path, wanted, config.force)
    elif any(out.iterdir()):
        raise DataError(
            "is not empty and was not made by prepare", path=out, advice="Choose another --out, or empty it first."
        )
    if config.force:
        for name in (*SPLITS, PARTS_NAME):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (MANIFEST_NAME, REPORT_NAME):
            (out / name).unlink(missing_ok=True)
    if config.force or not path.is_file():
        write_atomically(path, json.dumps({"settings": wanted}, indent=2).encode())
    (out / PARTS_NAME).mkdir(exist_ok=True)
    for partial in (out / PARTS_NAME).glob("*.partial"):
        shutil.rmtree(partial)


def settings(corpus: Path, config: PrepareConfig) -> dict[str, Any]:
    """What must not change within one folder of crops."""
    return {
        "format": FORMAT_VERSION,
        "corpus": str(corpus.resolve()),
        "frames_per_video": config.frames_per_video,
        "min_face": config.faces.min_face,
        "confidence": config.faces.confidence,
        "margin": config.faces.margin,
        "image_format": config.image_format,
        "size": config.size,
        "val": config.val,
        "test": config.test,
        "seed": config.seed,
    }


def _check(path: Path, wanted: Mapping[str, Any], force: bool) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["settings"]
        changed = [
            f"{name} {before.get(name)} → {value}" for name, value in wanted.items() if before.get(name) != value
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("is damaged", path=path, advice="Delete the folder, or choose another --out.") from error
    if changed and not force:
        raise DataError(
            f"holds crops made with other settings: {', '.join(changed)}",
            path=path.parent,
            advice="Choose another --out, or start over with --force.",
        )


def write_part(out: Path, part: Part) -> None:
    """Keep what became of a file; only then does it count as done."""
    write_atomically(_part_path(out, part.video), json.dumps(asdict(part)).encode())


def read_parts(out: Path) -> dict[str, Part]:
    """All that is done, by name of the video; unreadable parts count as not done."""
    parts = {}
    for path in sorted((out / PARTS_NAME).glob("*.json")):
        try:
            values = json.loads(path.read_bytes())
            part = Part(**{**values, "warnings": tuple(values["warnings"]), "rows": tuple(values["rows"])})
        except (ValueError, KeyError, TypeError):
            path.unlink()
            continue
        parts[part.video] = part
    return parts


def drop_strays(out: Path, parts: Mapping[str, Part]) -> None:
    """Remove crops that no part speaks of: an interrupted run's, or those of a file that has moved to another split."""
    known = {part.folder for part in parts.values()}
    for split in SPLITS:
        for folder in (out / split).glob("*/*/*/"):
            if folder.relative_to(out).as_posix() not in known:
                shutil.rmtree(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that appears whole, or not at all."""
    partial = path.with_name(path.name + ".tmp")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _part_path(out: Path, video: str) -> Path:
    return out / PARTS_NAME / f"{slug(video)}.json"
