"""From a corpus to face crops and their manifest.

The folder it writes::

    <split>/<label>/<method>/<video>/<frame>_<face>.png
    manifest.csv      one row a crop
    prepare.json      the settings it was made with, and counts
    report.md         counts, and what was left out and why
    parts/            one file a finished video, so that an interrupted run goes on where it stopped
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.config import PrepareConfig
from torchfakes_cli.errors import DataError, OutputError
from torchfakes_cli.training.corpora import FAKE, REAL, SPLITS, Skipped, SourceVideo, read_corpus, select
from torchfakes_cli.training.extract import ExtractConfig
from torchfakes_cli.training.manifest import MANIFEST_NAME, build_manifest
from torchfakes_cli.training.parts import (
    REPORT_NAME,
    SETTINGS_NAME,
    Part,
    claim,
    drop_strays,
    identity,
    read_parts,
    settings,
    write_atomically,
)
from torchfakes_cli.training.splits import assign_splits, crossing
from torchfakes_cli.training.workers import Task, run_tasks

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Count:
    """What one split has of one collection or method.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        label: ``real`` or ``fake``.
        method: of the fakes, or the collection of genuine files.
        videos: files that gave crops.
        crops: all of them.
        sharp: those above the blur threshold.
        balanced: those chosen for a balanced set.
    """

    split: str
    label: str
    method: str
    videos: int
    crops: int
    sharp: int
    balanced: int


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """How a run ended.

    Attributes:
        out: folder of the crops.
        layout: of the corpus, as recognised.
        counts: by split, label and method.
        skipped: files that gave no crops, and why.
        notes: plain sentences on what is missing or doubtful.
        unchanged: faces of fakes left out since they are their original's.
        videos_prepared: files worked on in this run.
        videos_ready: files that an earlier run had finished.
    """

    out: Path
    layout: str
    counts: tuple[Count, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    unchanged: int
    videos_prepared: int
    videos_ready: int

    @property
    def manifest(self) -> Path:
        """The table of crops."""
        return self.out / MANIFEST_NAME

    @property
    def report(self) -> Path:
        """Counts, and what was left out and why, as text."""
        return self.out / REPORT_NAME

    @property
    def crops(self) -> int:
        """Crops in the manifest."""
        return sum(count.crops for count in self.counts)


def prepare_corpus(
    corpus: str | PathLike[str], config: PrepareConfig | None = None, progress: Progress | None = None
) -> PrepareSummary:
    """Cut the faces out of a corpus and write their manifest.

    A run that was interrupted goes on where it stopped. A changed blur threshold only changes columns of the manifest;
    other settings never mix in one folder. With more than one process, call it from a script's
    ``if __name__ == "__main__":`` part, as for all of Python's process pools.

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
    found = read_corpus(root, [Path(folder) for folder in config.reals])
    selected = select(found, config.methods, config.compression, config.limit, config.seed)
    try:
        claim(out, root, config)
        parts = read_parts(out)
        kept = {part.group: part.split for part in parts.values()}
        splits = assign_splits(found.videos, config.val, config.test, config.seed, kept)
        apart = crossing(selected, splits)
        usable = [video for video in selected if video not in apart]
        tasks = _tasks(usable, {video.video: video for video in found.videos}, splits, parts)
        lost = run_tasks(tasks, out, _extract_config(config), config.jobs, _counted(tasks, progress))
        parts = read_parts(out)
        drop_strays(out, parts)
        table = build_manifest((row for part in parts.values() for row in part.rows), config.faces.blur_threshold)
        pending = sum(len(task.pending) for task in tasks)
        summary = PrepareSummary(
            out=out,
            layout=found.layout,
            counts=_counts(table),
            skipped=(*found.skipped, *_skipped(parts, lost, apart)),
            notes=(*found.notes, *_notes(parts, table)),
            unchanged=sum(part.unchanged for part in parts.values()),
            videos_prepared=pending - len(lost),
            videos_ready=len(usable) - pending,
        )
        _write_results(summary, table, settings(root, config) | {"blur_threshold": config.faces.blur_threshold})
    except OSError as error:
        raise OutputError(
            f"can't be written ({error.strerror or error})",
            path=error.filename or out,
            advice="Free some space, or choose another --out.",
        ) from error
    if table.empty:
        raise DataError(
            "no file gave a face",
            path=root,
            advice=f"Each file's reason stands in {summary.report}; for small faces lower --min-face.",
        )
    return summary


def _extract_config(config: PrepareConfig) -> ExtractConfig:
    return ExtractConfig(config.frames_per_video, config.size, config.image_format, config.faces)


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


def _counts(table: pd.DataFrame) -> tuple[Count, ...]:
    counts = []
    for key, rows in table.groupby(["split", "label", "method"]):
        split, label, method = (str(value) for value in key)
        blurry, balanced = int(rows["blurry"].sum()), int(rows["balanced"].sum())
        counts.append(Count(split, label, method, rows["video"].nunique(), len(rows), len(rows) - blurry, balanced))
    return tuple(sorted(counts, key=lambda count: (SPLITS.index(count.split), count.label == FAKE, count.method)))


def _skipped(parts: Mapping[str, Part], lost: Iterable[SourceVideo], apart: Iterable[SourceVideo]) -> Iterable[Skipped]:
    yield from (Skipped(part.video, part.reason) for part in parts.values() if part.reason)
    yield from (Skipped(video.video, "its process died: damaged, or too large for the memory") for video in lost)
    yield from (Skipped(video.video, "joins people of two splits") for video in apart)


def _notes(parts: Mapping[str, Part], table: pd.DataFrame) -> Iterable[str]:
    for split in SPLITS:
        held = set(table.loc[table["split"] == split, "label"])
        if missing := [label for label in (REAL, FAKE) if label not in held]:
            yield f"{split} has no {' and no '.join(missing)} crops"
    yield from (f"{part.video}: {warning}" for part in parts.values() for warning in part.warnings)


def _write_results(summary: PrepareSummary, table: pd.DataFrame, used: Mapping[str, object]) -> None:
    csv = table.to_csv(index=False, lineterminator="\n")
    write_atomically(summary.manifest, csv.encode(errors="surrogateescape"))
    counts = [asdict(count) for count in summary.counts]
    document = {"settings": used, "counts": counts, "unchanged": summary.unchanged}
    write_atomically(summary.out / SETTINGS_NAME, json.dumps(document, indent=2).encode())
    write_atomically(summary.report, _report(summary).encode(errors="backslashreplace"))


def _report(summary: PrepareSummary) -> str:
    lines = [
        "# Crops",
        "",
        f"Corpus: {summary.layout}. {summary.crops} crops; {summary.unchanged} faces of fakes left out since they are "
        "their original's.",
        "",
        "| split | label | method | files | crops | sharp | balanced |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {c.split} | {c.label} | {c.method} | {c.videos} | {c.crops} | {c.sharp} | {c.balanced} |"
        for c in summary.counts
    ]
    if summary.skipped:
        reasons = Counter(skipped.reason for skipped in summary.skipped)
        lines += ["", "## Left out", ""]
        lines += [f"- {count} × {reason}" for reason, count in reasons.most_common()]
        lines += ["", "| file | why |", "|---|---|"]
        lines += [f"| {_cell(s.name)} | {_cell(s.reason)} |" for s in summary.skipped]
    if summary.notes:
        lines += ["", "## Notes", "", *(f"- {_cell(note)}" for note in summary.notes)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that can't break a table's row."""
    return " ".join(text.replace("|", "\\|").split())
