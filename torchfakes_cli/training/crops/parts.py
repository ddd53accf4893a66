"""Extraction in several processes; each file's result is a part on disk, from which a later run continues.

A file that ends its process doesn't stop the others.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.files import write_atomically
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora.base import SPLITS, SourceVideo
from torchfakes_cli.training.crops.extract import VideoCrops, crop_faces, crop_folder, crop_like, slug, write_crops
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from torchfakes_cli.faces.mtcnn import FaceDetector

logger = logging.getLogger(__name__)

PARTS_NAME = "parts"


@dataclass(frozen=True, slots=True)
class Part:
    """Result of one file."""

    video: str  # name of the file
    split: str  # split of its crops
    group: str  # group of the file
    identity: str  # text that changes when the part is out of date
    folder: str = ""  # folder of its crops below the manifest's; empty without crops
    reason: str = ""  # reason for no crops; empty with crops
    unchanged: int = 0  # number of faces left out because they equal the original's
    damaged: int = 0  # number of samples left out because the decoder concealed errors in them
    warnings: tuple[str, ...] = ()  # warnings about the file and its decoding
    rows: tuple[dict[str, Any], ...] = ()  # for each crop its cells of the manifest by column


def identity(video: SourceVideo, original: SourceVideo | None, split: str) -> str:
    """Return a text for the state of a file and its original, and what is known of them."""
    status = [file.path.stat() for file in (video, original) if file is not None]
    stamps = [f"{each.st_size}@{each.st_mtime_ns}" for each in status]
    return " ".join([split, video.label, ascii(video.method), ascii(video.source), *stamps])


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


@dataclass(frozen=True, slots=True)
class Task:
    """An original and its fakes, or a file without a counterpart, for one process."""

    original: SourceVideo | None  # sampled first, even if its crops aren't pending; None for a lone fake
    pending: tuple[SourceVideo, ...]  # files without crops
    splits: tuple[str, ...]  # split of each pending file


def run_tasks(
    tasks: Sequence[Task], out: Path, config: PrepareConfig, progress: Callable[[int, int], None]
) -> list[SourceVideo]:
    """Extract the crops of all tasks in ``config.jobs`` processes; a single one is this process.

    Calls ``progress`` with the numbers of files done and to do. Returns the files that ended their process and
    therefore have no part.
    """
    finished, total = 0, sum(len(task.pending) for task in tasks)

    def done(files: int) -> None:
        nonlocal finished
        finished += files
        progress(finished, total)

    done(0)
    cores = usable_cores()
    processes = min(config.jobs or cores, len(tasks))
    if processes <= 1:
        try:
            for task in tasks:
                done(extract(task, out, config))
        finally:
            _decoder().close()
        return []
    lost: list[SourceVideo] = []
    left = list(tasks)
    while left:
        left = _run_pool(left, out, config, processes, done)
        # One of the tasks in progress ended its process; each alone tells which, and the others get done.
        suspects, left = left[:processes], left[processes:]
        for task in suspects:
            if _run_pool([task], out, config, 1, done):
                lost += task.pending
                done(len(task.pending))
    return lost


def _run_pool(
    tasks: Sequence[Task], out: Path, config: PrepareConfig, processes: int, done: Callable[[int], None]
) -> list[Task]:
    """Run tasks until all are done or a process dies; return the remaining ones in their order."""
    others = set(multiprocessing.active_children())
    threads = max(1, usable_cores() // processes)
    # Threads of torch and OpenCV don't survive a fork.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker, (threads,))
    left = []
    try:
        futures = {pool.submit(extract, task, out, config): position for position, task in enumerate(tasks)}
        for future in as_completed(futures):
            try:
                done(future.result())
            except BrokenProcessPool:
                left.append(futures[future])
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return [tasks[position] for position in sorted(left)]


def extract(task: Task, out: Path, config: PrepareConfig) -> int:
    """Write crops and part of every pending file of a task; return the number of these files."""
    original = None if task.original is None else _crops_of(task.original, None, config)
    for video, split in zip(task.pending, task.splits, strict=True):
        crops = original if original is not None and video == task.original else _crops_of(video, original, config)
        state = identity(video, None if video == task.original else task.original, split)
        part = Part(video.video, split, video.group, state)
        part = replace(part, reason=crops) if isinstance(crops, str) else _written(part, video, crops, out, config)
        write_part(out, part)
    return len(task.pending)


def _crops_of(video: SourceVideo, original: VideoCrops | str | None, config: PrepareConfig) -> VideoCrops | str:
    """Return the crops of a file, taken like its original's where possible; or why there are none."""
    try:
        if isinstance(original, VideoCrops) and (crops := crop_like(video, original, config, _decoder())) is not None:
            return crops
        return crop_faces(video, config, _detector(config.faces), _decoder())
    except TorchfakesError as error:
        return error.cause
    except Exception as error:
        logger.debug("%s", video.path, exc_info=True)
        return f"unexpected {type(error).__name__}: {error}"


def _written(part: Part, video: SourceVideo, crops: VideoCrops, out: Path, config: PrepareConfig) -> Part:
    """Write the crops of a file; return its part."""
    folder = crop_folder(video, part.split)
    rows = write_crops(crops, out, folder, config.image_format)
    unchanged = len(crops.crops) - len(rows)
    reason = ""
    if not rows:
        reason = "every face is its original's" if unchanged else "no face" if video.is_still else "no face that lasts"
    known = {name: getattr(video, name) for name in ("label", "method", "group", "video", "source")}
    return replace(
        part,
        folder=folder if rows else "",
        reason=reason,
        unchanged=unchanged,
        damaged=crops.damaged,
        warnings=crops.warnings,
        rows=tuple({**row, "split": part.split, **known} for row in rows),
    )


@cache
def _decoder() -> IsolatedDecoder:
    """Return the decoder of this process; it decodes in a process of its own, which a file may hang or crash."""
    return IsolatedDecoder()


@cache
def _detector(config: FaceConfig) -> FaceDetector:
    """Return the detector of this process, because loading it takes longer than a short clip."""
    from torchfakes_cli.faces.mtcnn import FaceDetector

    return FaceDetector(config)


def _start_worker(threads: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    # An interrupt at the terminal reaches every process; the parent handles it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process with its parent, because a killed parent can't end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
