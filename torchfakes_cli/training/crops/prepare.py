"""From a corpus to face crops and their manifest.

The folder it writes::

    <split>/<label>/<method>/<video>/<frame>_<face>.png
    manifest.csv      one row per crop
    prepare.json      settings and counts
    report.md         counts, and what was left out and why
    contact_sheet.jpg some crops of every kind, to check by eye
    parts/            one file per finished video, so that an interrupted run can continue
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.files import try_lock
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora import read_corpus, select
from torchfakes_cli.training.corpora.base import FAKE, REAL, SPLITS, Corpus, Skipped, SourceVideo
from torchfakes_cli.training.crops import manifest, report
from torchfakes_cli.training.crops import parts as store
from torchfakes_cli.training.crops.parts import PARTS_NAME, Part, Task, write
from torchfakes_cli.training.crops.splits import assign_splits, left_out

if TYPE_CHECKING:
    import pandas as pd

#: Settings that may rise within one folder: crops below are then marked, not extracted again.
_FLOORS = ("min_face", "confidence")

Progress = Callable[[int, int | None], None]


def prepare_corpus(
    corpus: str | PathLike[str], config: PrepareConfig | None = None, progress: Progress | None = None
) -> report.PrepareSummary:
    """Extract the face crops of a corpus and write their manifest.

    An interrupted run is continued. Another threshold for blur or near duplicates, and a higher one for size or
    confidence, only changes columns of the manifest; other settings never mix in one folder. With more than one
    process, call it below ``if __name__ == "__main__":``, as for all of Python's process pools.

    Args:
        corpus: folder of the corpus, in one of the layouts of :mod:`torchfakes_cli.training.corpora`.
        config: output folder and settings.
        progress: called with (files done, files to do).

    Raises:
        DataError: the corpus holds nothing usable, or the folder holds something else.
        OutputError: the folder can't be written.
    """
    config = config or PrepareConfig()
    root, out = Path(corpus), Path(config.out)
    groups = None if config.groups is None else Path(config.groups)
    found = read_corpus(root, [Path(folder) for folder in config.reals], config.split, groups)
    selected = select(found, config.methods, config.compression, config.limit, config.seed)
    try:
        with locked_folder(out):
            summary = _prepare(root, out, found, selected, config, progress)
    except OSError as error:
        raise OutputError(
            f"can't be written ({error.strerror or error})",
            path=error.filename or out,
            advice="Free some space, or choose another --output.",
        ) from error
    if not summary.crops:
        raise DataError(
            "no file gave a face",
            path=root,
            advice=f"Each file's reason is in {summary.report}; for small faces lower --min-face.",
        )
    return summary


def _prepare(
    root: Path,
    out: Path,
    found: Corpus,
    selected: Sequence[SourceVideo],
    config: PrepareConfig,
    progress: Progress | None,
) -> report.PrepareSummary:
    faces = _claim(out, root, config, found.lists)
    by_name = {video.video: video for video in found.videos}
    parts = store.read_parts(out)
    kept: dict[str, str] = {}
    for part in parts.values():
        kept.setdefault(_group(part, by_name), part.split)
    splits = assign_splits(found, config.val, config.test, config.seed, kept)
    apart = {video.video: reason for video, reason in left_out(found, splits)}
    for name, part in list(parts.items()):
        # Files added since may have shown that two groups are one, or that a fake joins two splits.
        if name in apart or splits.get(_group(part, by_name), part.split) != part.split:
            store.drop_part(out, parts.pop(name))
    wanted = [video for video in selected if video.video not in apart]
    tasks = _tasks(wanted, by_name, splits, parts)
    pending = sum(len(task.pending) for task in tasks)
    lost = store.run_tasks(tasks, out, replace(config, faces=faces), progress or (lambda done, total: None))
    if pending:
        parts = store.read_parts(out)
    store.drop_strays(out, parts)
    rows = ({**row, "group": _group(part, by_name)} for part in parts.values() for row in part.rows)
    table = manifest.build_manifest(rows, config)
    summary = report.PrepareSummary(
        out=out,
        layout=found.layout,
        counts=report.count_crops(table),
        skipped=(
            *found.skipped,
            *(Skipped(part.video, part.reason) for part in parts.values() if part.reason),
            *(Skipped(video.video, "its process died: damaged, or too large for the memory") for video in lost),
            *(Skipped(video.video, apart[video.video]) for video in selected if video.video in apart),
        ),
        notes=(*found.notes, *_notes(parts, table, wanted)),
        flaws=tuple((flaw, int(table[flaw].sum())) for flaw in manifest.FLAWS),
        unchanged=sum(part.unchanged for part in parts.values()),
        damaged=sum(part.damaged for part in parts.values()),
        videos_prepared=pending - len(lost),
        videos_ready=len(wanted) - pending,
    )
    _write_results(summary, table, _settings(root, replace(config, faces=faces), found.lists), config)
    return summary


def _group(part: Part, by_name: Mapping[str, SourceVideo]) -> str:
    """Return the group of a part, which further files may have joined with another since."""
    return by_name[part.video].group if part.video in by_name else part.group


def _tasks(
    wanted: Sequence[SourceVideo],
    by_name: Mapping[str, SourceVideo],
    splits: Mapping[str, str],
    parts: Mapping[str, Part],
) -> list[Task]:
    """Return the files without a current part, each original with its fakes."""
    families: dict[str, list[SourceVideo]] = defaultdict(list)
    for video in wanted:
        part = parts.get(video.video)
        if part is None or part.identity != store.identity(video, by_name.get(video.source), splits[video.group]):
            families[video.source or video.video].append(video)
    tasks = []
    for name, pending in families.items():
        head = by_name.get(name)
        original = head if head is not None and head.label == REAL else None
        tasks.append(Task(original, tuple(pending), tuple(splits[video.group] for video in pending)))
    return tasks


def _notes(parts: Mapping[str, Part], table: pd.DataFrame, wanted: Collection[SourceVideo]) -> Iterable[str]:
    for split in SPLITS:
        held = set(table.loc[table["split"] == split, "label"])
        if missing := [label for label in (REAL, FAKE) if label not in held]:
            yield f"{split} has no {' and no '.join(missing)} crops"
    if others := len(parts.keys() - {video.video for video in wanted}):
        yield f"{others} files that only an earlier run asked for are in the manifest, too"
    yield from (f"{part.video}: {warning}" for part in parts.values() for warning in part.warnings)


def _write_results(
    summary: report.PrepareSummary, table: pd.DataFrame, used: Mapping[str, object], config: PrepareConfig
) -> None:
    if sheet := report.contact_sheet(table, summary.out):
        write(summary.out, report.SHEET_NAME, sheet)
    csv = table.to_csv(index=False, lineterminator="\n")
    write(summary.out, manifest.MANIFEST_NAME, csv.encode(errors="surrogateescape"))
    document = {
        "settings": used,
        "thresholds": {
            **{name: getattr(config.faces, name) for name in ("blur_threshold", "min_face", "confidence")},
            "duplicate_threshold": config.duplicate_threshold,
            "balance": config.balance,
        },
        "counts": [asdict(count) for count in summary.counts],
        "flaws": dict(summary.flaws),
        "unchanged": summary.unchanged,
        "damaged": summary.damaged,
    }
    write(summary.out, manifest.SETTINGS_NAME, json.dumps(document, indent=2).encode())
    write(summary.out, report.REPORT_NAME, report.report_text(summary).encode(errors="backslashreplace"))


@contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Lock a folder of crops against other runs; it is made if it doesn't exist.

    Raises:
        DataError: it holds something else.
        OutputError: another run is writing there.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A run that was killed at its very beginning has left no more than the folder of the parts.
    if not (out / manifest.SETTINGS_NAME).is_file() and any(path.name != PARTS_NAME for path in out.iterdir()):
        raise DataError(
            "is not empty and was not made by prepare", path=out, advice="Choose another --output, or empty it first."
        )
    (out / PARTS_NAME).mkdir(exist_ok=True)
    lock = try_lock(out / PARTS_NAME / "lock")
    if lock is None:
        raise OutputError("another run is writing there", path=out, advice="Wait for it, or choose another --output.")
    try:
        yield
    finally:
        lock.release()


def _claim(out: Path, corpus: Path, config: PrepareConfig, lists: Sequence[Path]) -> FaceConfig:
    """Prepare a locked folder for crops with these settings, and remove what a killed run left unfinished.

    Returns the face settings that all crops of the folder share. Smallest face and confidence may be below those of
    this run: crops in between are marked.

    Raises:
        DataError: it holds crops with other settings, and ``config.force`` isn't set.
    """
    path = out / manifest.SETTINGS_NAME
    wanted = _settings(corpus, config, lists)
    faces = config.faces
    parts = out / PARTS_NAME
    if config.force:
        for name in SPLITS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (manifest.MANIFEST_NAME, report.REPORT_NAME, report.SHEET_NAME):
            (out / name).unlink(missing_ok=True)
    elif path.is_file():
        before = manifest.recorded_settings(out)
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
        write(out, manifest.SETTINGS_NAME, json.dumps({"settings": wanted}, indent=2).encode())
    return faces


def _settings(corpus: Path, config: PrepareConfig, lists: Sequence[Path]) -> dict[str, Any]:
    """Return the settings that must not change within one folder of crops."""
    split = config.split if config.split == "groups" else "official" if config.split.startswith("official") else "table"
    if lists:
        split += f" {blake2b(b''.join(path.read_bytes() for path in lists), digest_size=4).hexdigest()}"
    return {
        "format": 2,
        "corpus": str(corpus.resolve()),
        "split": split,
        **{name: getattr(config.faces, name) for name in ("min_face", "confidence", "margin")},
        **{name: getattr(config, name) for name in ("frames_per_video", "image_format", "size", "val", "test", "seed")},
    }
