"""State that a run of ``prepare`` keeps on disk, so that the next run continues it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.files import try_lock
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora import SPLITS, SourceVideo
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.crops.manifest import MANIFEST_NAME

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
SETTINGS_NAME, REPORT_NAME, SHEET_NAME = "prepare.json", "report.md", "contact_sheet.jpg"
PARTS_NAME = "parts"
_LOCK_NAME = "lock"
_UNFINISHED = ".tmp"
#: Settings that may rise within one folder: what then lies below is marked, not cut again.
_FLOORS = ("min_face", "confidence")


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
        damaged: samples left out, as parts of their pictures were made up by the decoder.
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
    damaged: int = 0
    warnings: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


def identity(video: SourceVideo, original: SourceVideo | None, split: str) -> str:
    """Identify the state of a file and its original, and what is known of them."""
    stamps = []
    for file in (video, original):
        if file is not None:
            status = file.path.stat()
            stamps.append(f"{status.st_size}@{status.st_mtime_ns}")
    return " ".join([split, video.label, ascii(video.method), ascii(video.source), *stamps])


@contextmanager
def workplace(out: Path) -> Iterator[None]:
    """Hold a folder of crops against other runs; it is made if it isn't there.

    Raises:
        DataError: it holds something else.
        OutputError: another run is writing there.
        OSError: it can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A run that was killed at its very beginning has left no more than these.
    ours = {PARTS_NAME, SETTINGS_NAME + _UNFINISHED}
    if not (out / SETTINGS_NAME).is_file() and any(path.name not in ours for path in out.iterdir()):
        raise DataError(
            "is not empty and was not made by prepare", path=out, advice="Choose another --out, or empty it first."
        )
    (out / PARTS_NAME).mkdir(exist_ok=True)
    lock = try_lock(out / PARTS_NAME / _LOCK_NAME)
    if lock is None:
        raise OutputError("another run is writing there", path=out, advice="Wait for it, or choose another --out.")
    try:
        yield
    finally:
        lock.release()


def claim(out: Path, corpus: Path, config: PrepareConfig, lists: Sequence[Path] = ()) -> FaceConfig:
    """Make a folder ready for crops that are cut as ``config`` says.

    Args:
        out: held by :func:`workplace`.
        corpus: its folder.
        config: what is asked for.
        lists: files that decide the splits.

    Returns:
        How faces must be found and cut, for all crops of the folder to be alike. Its smallest face and confidence may
        lie below what is asked for: such crops are marked.

    Raises:
        DataError: it holds crops that were cut otherwise, and ``config.force`` isn't set.
        OSError: it can't be written.
    """
    path = out / SETTINGS_NAME
    wanted = settings(corpus, config, lists)
    faces = config.faces
    if path.is_file() and not config.force:
        before = _settings_before(path)
        _check(path, before, wanted)
        faces = replace(faces, **{name: before[name] for name in _FLOORS})
    if config.force:
        for name in (*SPLITS, PARTS_NAME):
            _remove_below(out / name)
        for name in (MANIFEST_NAME, REPORT_NAME, SHEET_NAME):
            (out / name).unlink(missing_ok=True)
    if config.force or not path.is_file():
        write_atomically(path, json.dumps({"settings": wanted}, indent=2).encode())
    for partial in (out / PARTS_NAME).glob("*.partial"):
        shutil.rmtree(partial)
    for unfinished in (*out.glob(f"*{_UNFINISHED}"), *(out / PARTS_NAME).glob(f"*{_UNFINISHED}")):
        unfinished.unlink()
    return faces


def settings(corpus: Path, config: PrepareConfig, lists: Sequence[Path] = ()) -> dict[str, Any]:
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
        "split": _split_setting(config.split, lists),
        "val": config.val,
        "test": config.test,
        "seed": config.seed,
    }


def _split_setting(split: str, lists: Sequence[Path]) -> str:
    """What decides the splits, and what the lists say that do."""
    kind = split.partition(":")[0] if split == "groups" or split.startswith("official") else "table"
    if not lists:
        return kind
    digest = blake2b(digest_size=4)
    for path in lists:
        digest.update(path.read_bytes())
    return f"{kind} {digest.hexdigest()}"


def _settings_before(path: Path) -> dict[str, Any]:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["settings"]
        return dict(before)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("is damaged", path=path, advice="Delete the folder, or choose another --out.") from error


def _check(path: Path, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    changed = [
        f"{name} {before.get(name)} → {value}"
        for name, value in wanted.items()
        if before.get(name) != value and not (name in _FLOORS and name in before and before[name] < value)
    ]
    if changed:
        raise DataError(
            f"holds crops made with other settings: {', '.join(changed)}",
            path=path.parent,
            advice="Choose another --out, or start over with --force.",
        )


def _remove_below(folder: Path) -> None:
    """Empty a folder, except for the lock that is held in it."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _LOCK_NAME:
            path.unlink(missing_ok=True)


def write_part(out: Path, part: Part) -> None:
    """Keep what became of a file; only then does it count as done."""
    # A part that a power failure leaves empty counts as not done: no need to wait for the disk each time.
    write_atomically(_part_path(out, part.video), json.dumps(asdict(part)).encode(), flush=False)


def read_parts(out: Path) -> dict[str, Part]:
    """All that is done, by name of the video; parts that can't be read, or lack crops, count as not done."""
    parts = {}
    for path in sorted((out / PARTS_NAME).glob("*.json")):
        try:
            values = json.loads(path.read_bytes())
            part = Part(**{**values, "warnings": tuple(values["warnings"]), "rows": tuple(values["rows"])})
        except (ValueError, KeyError, TypeError):
            path.unlink()
            continue
        if _crops_present(out, part):
            parts[part.video] = part
        else:
            path.unlink()
    return parts


def _crops_present(out: Path, part: Part) -> bool:
    folder = out / part.folder
    found = {path.name for path in folder.iterdir()} if part.folder and folder.is_dir() else set()
    return found == {row["crop"].rpartition("/")[2] for row in part.rows}


def drop_part(out: Path, part: Part) -> None:
    """Forget what became of a file; its crops become strays."""
    _part_path(out, part.video).unlink(missing_ok=True)


def drop_strays(out: Path, parts: Mapping[str, Part]) -> None:
    """Remove crops that no part lists: an interrupted run's, or those of a file that has moved to another split."""
    known = {part.folder for part in parts.values()}
    for split in SPLITS:
        for folder in (out / split).glob("*/*/*/"):
            if folder.relative_to(out).as_posix() not in known:
                shutil.rmtree(folder)


def write_atomically(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Write a file that appears whole, or not at all, even through a power failure where it is flushed."""
    partial = path.with_name(path.name + _UNFINISHED)
    with partial.open("wb") as file:
        file.write(data)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)


def _part_path(out: Path, video: str) -> Path:
    return out / PARTS_NAME / f"{slug(video)}.json"
