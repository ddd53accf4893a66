"""Extraction in several processes; a file that ends its process doesn't stop the others."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora.base import SourceVideo
from torchfakes_cli.training.crops.extract import VideoCrops, crop_faces, crop_folder, crop_like, write_crops
from torchfakes_cli.training.crops.parts import Part, identity, write_part
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import usable_cores

if TYPE_CHECKING:
    from torchfakes_cli.faces.mtcnn import FaceDetector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """An original and its fakes, or a file without a counterpart, for one process.

    Attributes:
        original: sampled first, even if its crops aren't pending; None for a lone fake.
        pending: files without crops.
        splits: split of each pending file.
    """

    original: SourceVideo | None
    pending: tuple[SourceVideo, ...]
    splits: tuple[str, ...]


def run_tasks(
    tasks: Sequence[Task], out: Path, config: PrepareConfig, done: Callable[[int], None]
) -> list[SourceVideo]:
    """Extract the crops of all tasks.

    Args:
        tasks: tasks in any order.
        out: folder of the crops.
        config: how to extract them, and the number of processes. A single one is this process.
        done: called with the number of files finished since the last call.

    Returns:
        Files that ended their process and therefore have no part.

    Raises:
        OSError: crops can't be written.
    """
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
    """Write crops and part of every pending file of a task.

    Returns:
        Number of these files.

    Raises:
        OSError: they can't be written.
    """
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
    known = {
        "split": part.split,
        "label": video.label,
        "method": video.method,
        "group": video.group,
        "video": video.video,
        "source": video.source,
    }
    return replace(
        part,
        folder=folder if rows else "",
        reason=reason,
        unchanged=unchanged,
        damaged=crops.damaged,
        warnings=crops.warnings,
        rows=tuple({**row, **known} for row in rows),
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
