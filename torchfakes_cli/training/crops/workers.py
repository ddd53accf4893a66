"""Extraction on several processes, where one bad file never stops the others."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError, TorchfakesError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.training.corpora import SourceVideo
from torchfakes_cli.training.crops.extract import (
    ExtractConfig,
    Footage,
    changes,
    crop_folder,
    look_again,
    look_at,
    write_crops,
)
from torchfakes_cli.training.crops.parts import Part, identity, write_part
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.limits import usable_cores

if TYPE_CHECKING:
    from torchfakes_cli.faces.mtcnn import FaceDetector

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """An original and its fakes, or a file without a counterpart; one process works on it.

    Attributes:
        original: sampled first, whether or not its crops are wanted; None for a lone file.
        pending: files whose crops are wanted.
        splits: of each pending file.
    """

    original: SourceVideo | None
    pending: tuple[SourceVideo, ...]
    splits: tuple[str, ...]


def run_tasks(
    tasks: Sequence[Task], out: Path, config: ExtractConfig, jobs: int | None, done: Callable[[int], None]
) -> list[SourceVideo]:
    """Work on all tasks.

    Args:
        tasks: in any order.
        out: folder of the crops.
        config: how to cut them.
        jobs: processes; None for one a core. A single one is this process.
        done: called with the number of files finished since the last call.

    Returns:
        Files whose process died, which therefore have no part.

    Raises:
        OutputError: crops can't be written.
    """
    cores = usable_cores()
    processes = min(jobs or cores, len(tasks))
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
        left = _run_pool(left, out, config, processes, max(1, cores // processes), done)
        # One of those that were being worked on has killed its process; alone it is found, and the others get done.
        suspects, left = left[:processes], left[processes:]
        for task in suspects:
            if _run_pool([task], out, config, 1, cores, done):
                lost += task.pending
                done(len(task.pending))
    return lost


def _run_pool(
    tasks: Sequence[Task], out: Path, config: ExtractConfig, processes: int, threads: int, done: Callable[[int], None]
) -> list[Task]:
    """Returns the tasks left over when a process died, in their order; empty if all went well."""
    others = set(multiprocessing.active_children())
    # Never fork: torch's and OpenCV's threads don't survive it.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker, (threads,))
    try:
        futures = {pool.submit(extract, task, out, config): position for position, task in enumerate(tasks)}
        left = []
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


def extract(task: Task, out: Path, config: ExtractConfig) -> int:
    """Write crops and part of every pending file of a task.

    Returns:
        How many files that were.

    Raises:
        OutputError: they can't be written.
    """
    first = None if task.original is None else _look(task.original, None, config)
    for video, split in zip(task.pending, task.splits, strict=True):
        if first is not None and video == task.original:
            outcome = first
        else:
            outcome = _look(video, None if first is None else first.footage, config)
        try:
            _write(video, task.original, split, outcome, out, config)
        except OSError as error:
            raise OutputError(
                f"can't be written ({error.strerror or error})",
                path=error.filename or out,
                advice="Free some space, or choose another --out.",
            ) from error
    return len(task.pending)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What was seen of one file, with the original it was laid over; or why nothing was."""

    footage: Footage | None = None
    laid_over: Footage | None = None
    reason: str = ""


def _look(video: SourceVideo, original: Footage | None, config: ExtractConfig) -> _Outcome:
    try:
        if original is not None:
            footage = look_again(video, original, config, _decoder())
            if footage is not None:
                return _Outcome(footage, original)
        return _Outcome(look_at(video, config, _detector(config.faces), _decoder()))
    except TorchfakesError as error:
        return _Outcome(reason=error.cause)
    except Exception as error:  # noqa: BLE001 - an error in one file must not stop the others
        _log.debug("%s", video.path, exc_info=True)
        return _Outcome(reason=f"unexpected {type(error).__name__}: {error}")


def _write(
    video: SourceVideo, original: SourceVideo | None, split: str, outcome: _Outcome, out: Path, config: ExtractConfig
) -> None:
    """Write one file's crops, then its part."""
    state = identity(video, None if original == video else original, split)
    footage, laid_over = outcome.footage, outcome.laid_over
    if footage is None:
        write_part(out, Part(video.video, split, video.group, state, reason=outcome.reason))
        return
    folder = crop_folder(video, split)
    changed = changes(footage, laid_over) if laid_over is not None else {}
    extraction = write_crops(footage, changed, "own" if laid_over is None else "original", out, folder, config)
    reason = ""
    if extraction.unchanged and not extraction.rows:
        reason = "every face is its original's"
    elif not extraction.rows:
        reason = "no face" if video.is_still else "no face that lasts"
    place = {
        "split": split,
        "label": video.label,
        "method": video.method,
        "group": video.group,
        "video": video.video,
        "source": video.source,
    }
    part = Part(
        video=video.video,
        split=split,
        group=video.group,
        identity=state,
        folder=folder if extraction.rows else "",
        reason=reason,
        unchanged=extraction.unchanged,
        damaged=footage.damaged,
        warnings=footage.warnings,
        rows=tuple({**row.columns(), **place} for row in extraction.rows),
    )
    write_part(out, part)


@cache
def _decoder() -> IsolatedDecoder:
    """One decoder a process; it decodes in a process of its own, which a file may hang or crash."""
    return IsolatedDecoder()


@cache
def _detector(config: FaceConfig) -> FaceDetector:
    """One detector a process, since loading it takes longer than a short clip."""
    from torchfakes_cli.faces.mtcnn import FaceDetector

    return FaceDetector(config)


def _start_worker(threads: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    # An interrupt at the terminal reaches every process; the parent answers it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed can't end its workers, and they would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
