"""From a corpus to face crops and their manifest.

The folder it writes::

    <split>/<label>/<method>/<video>/<frame>_<face>.png
    manifest.csv      one row a crop
    prepare.json      the settings it was made with, and counts
    report.md         counts, and what was left out and why
    contact_sheet.jpg some crops of every kind, to look at
    parts/            one file per finished video, so that an interrupted run can be continued
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora import FAKE, REAL, SPLITS, Corpus, Skipped, SourceVideo, read_corpus, select
from torchfakes_cli.training.crops.extract import ExtractConfig
from torchfakes_cli.training.crops.manifest import FLAWS, build_manifest
from torchfakes_cli.training.crops.parts import (
    SETTINGS_NAME,
    Part,
    claim,
    drop_part,
    drop_strays,
    identity,
    read_parts,
    settings,
    workplace,
    write_atomically,
    write_part,
)
from torchfakes_cli.training.crops.report import PrepareSummary, count_crops, report_text, write_contact_sheet
from torchfakes_cli.training.crops.splits import assign_splits, left_out
from torchfakes_cli.training.crops.workers import Task, run_tasks

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int | None], None]


def prepare_corpus(
    corpus: str | PathLike[str], config: PrepareConfig | None = None, progress: Progress | None = None
) -> PrepareSummary:
    """Cut the faces out of a corpus and write their manifest.

    An interrupted run is continued. A changed threshold for blur or near duplicates, and a higher
    one for size or confidence, only changes columns of the manifest; other settings never mix in one folder. With more
    than one process, call it from a script's ``if __name__ == "__main__":`` part, as for all of Python's process pools.

    Args:
        corpus: its folder, in one of the layouts of :mod:`torchfakes_cli.training.corpora`.
        config: where to and how.
        progress: called with (files done, files to do).

    Returns:
        Counts, and what was left out.

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
        with workplace(out):
            summary = _prepare(root, out, found, selected, config, progress)
    except OSError as error:
        raise OutputError(
            f"can't be written ({error.strerror or error})",
            path=error.filename or out,
            advice="Free some space, or choose another --out.",
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
) -> PrepareSummary:
    faces = claim(out, root, config, found.lists)
    parts = read_parts(out)
    kept = {part.group: part.split for part in parts.values()}
    splits = assign_splits(found, config.val, config.test, config.seed, kept)
    out_of_place = {video.video: reason for video, reason in left_out(found, splits)}
    parts = _still_valid(out, parts, found.videos, splits, out_of_place)
    usable_videos = [video for video in selected if video.video not in out_of_place]
    tasks = _tasks(usable_videos, {video.video: video for video in found.videos}, splits, parts)
    extraction = ExtractConfig(config.frames_per_video, config.size, config.image_format, faces)
    lost = run_tasks(tasks, out, extraction, config.jobs, _counted(tasks, progress))
    parts = read_parts(out)
    drop_strays(out, parts)
    table = build_manifest((row for part in parts.values() for row in part.rows), config)
    pending = sum(len(task.pending) for task in tasks)
    crossing = [Skipped(video.video, out_of_place[video.video]) for video in selected if video.video in out_of_place]
    summary = PrepareSummary(
        out=out,
        layout=found.layout,
        counts=count_crops(table),
        skipped=(*found.skipped, *_skipped(parts, lost), *crossing),
        notes=(*found.notes, *_notes(parts, table, usable_videos)),
        flaws=tuple((flaw, int(table[flaw].sum())) for flaw in FLAWS),
        unchanged=sum(part.unchanged for part in parts.values()),
        damaged=sum(part.damaged for part in parts.values()),
        videos_prepared=pending - len(lost),
        videos_ready=len(usable_videos) - pending,
    )
    write_contact_sheet(table, out, summary.contact_sheet)
    _write_results(summary, table, settings(root, replace(config, faces=faces), found.lists), config)
    return summary


def _still_valid(
    out: Path,
    parts: Mapping[str, Part],
    videos: Iterable[SourceVideo],
    splits: Mapping[str, str],
    out_of_place: Collection[str],
) -> dict[str, Part]:
    """Parts of earlier runs that agree with the current splits.

    Files that have come since may have shown that two groups are one, or that a fake joins two splits.
    """
    by_name = {video.video: video for video in videos}
    valid = {}
    for name, part in parts.items():
        video = by_name.get(name)
        group = part.group if video is None else video.group
        if name in out_of_place or splits.get(group, part.split) != part.split:
            drop_part(out, part)
            continue
        if group != part.group:
            part = replace(part, group=group, rows=tuple({**row, "group": group} for row in part.rows))
            write_part(out, part)
        valid[name] = part
    return valid


def _tasks(
    usable: Sequence[SourceVideo],
    by_name: Mapping[str, SourceVideo],
    splits: Mapping[str, str],
    parts: Mapping[str, Part],
) -> list[Task]:
    """What is left to do, each original with its fakes."""
    families: dict[str, list[SourceVideo]] = defaultdict(list)
    for video in usable:
        original = by_name.get(video.source)
        split = splits[video.group]
        part = parts.get(video.video)
        if part is None or part.identity != identity(video, original, split):
            families[video.source or video.video].append(video)
    tasks = []
    for name, pending in families.items():
        head = by_name.get(name)
        original = head if head is not None and (head.label == REAL) else None
        tasks.append(Task(original, tuple(pending), tuple(splits[video.group] for video in pending)))
    return tasks


def _counted(tasks: Iterable[Task], progress: Progress | None) -> Callable[[int], None]:
    """A callback that adds up files and passes them on."""
    total = sum(len(task.pending) for task in tasks)
    finished = 0

    def done(files: int) -> None:
        nonlocal finished
        finished += files
        if progress is not None:
            progress(finished, total)

    done(0)
    return done


def _skipped(parts: Mapping[str, Part], lost: Iterable[SourceVideo]) -> Iterable[Skipped]:
    yield from (Skipped(part.video, part.reason) for part in parts.values() if part.reason)
    yield from (Skipped(video.video, "its process died: damaged, or too large for the memory") for video in lost)


def _notes(parts: Mapping[str, Part], table: pd.DataFrame, asked_for: Iterable[SourceVideo]) -> Iterable[str]:
    for split in SPLITS:
        held = set(table.loc[table["split"] == split, "label"])
        if missing := [label for label in (REAL, FAKE) if label not in held]:
            yield f"{split} has no {' and no '.join(missing)} crops"
    if others := len(parts.keys() - {video.video for video in asked_for}):
        yield f"{others} files that only an earlier run asked for are in the manifest, too"
    yield from (f"{part.video}: {warning}" for part in parts.values() for warning in part.warnings)


def _write_results(
    summary: PrepareSummary, table: pd.DataFrame, used: Mapping[str, object], config: PrepareConfig
) -> None:
    csv = table.to_csv(index=False, lineterminator="\n")
    write_atomically(summary.manifest, csv.encode(errors="surrogateescape"))
    thresholds = {
        "blur_threshold": config.faces.blur_threshold,
        "min_face": config.faces.min_face,
        "confidence": config.faces.confidence,
        "duplicate_threshold": config.duplicate_threshold,
        "balance": config.balance,
    }
    document = {
        "settings": used,
        "thresholds": thresholds,
        "counts": [asdict(count) for count in summary.counts],
        "flaws": dict(summary.flaws),
        "unchanged": summary.unchanged,
        "damaged": summary.damaged,
    }
    write_atomically(summary.out / SETTINGS_NAME, json.dumps(document, indent=2).encode())
    write_atomically(summary.report, report_text(summary).encode(errors="backslashreplace"))
