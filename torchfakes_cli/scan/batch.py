"""Many files: what goes wrong with one of them becomes its result, and the rest go on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli import __version__
from torchfakes_cli.config import ScanConfig
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import ModelNotFoundError, TorchfakesError, UnreadableFileError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report import Stamp
from torchfakes_cli.scan.flow import FolderProgress, Outcome
from torchfakes_cli.scan.pipeline import Scanner
from torchfakes_cli.scan.search import find_videos

if TYPE_CHECKING:
    from torchfakes_cli.detector import Detector
    from torchfakes_cli.scan.remote import State
    from torchfakes_cli.scan.spread.executor import Executor

logger = logging.getLogger(__name__)


def scan_folder(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]],
    config: ScanConfig | None = None,
    *,
    detector: Detector | None = None,
    progress: FolderProgress | None = None,
    executor: Executor | None = None,
) -> Iterator[VideoResult]:
    """Scans every video below some folders, and every file that is named.

    Args:
        paths: one path or several; see ``find_videos`` for what is taken and in which order.
        config: None for the defaults.
        detector: None loads the one that ships, once.
        progress: called with (path, frames done, frames wanted if known); several files are scanned at once.
        executor: scans them in place of this process, with its own settings; see ``on_devices`` and ``on_ray``. It is
            closed at the end.

    Yields:
        One result a file, as soon as it is known; in the order of the files, if this process scans them. A file that
        can't be scanned, or a folder that can't be listed, has status ``error``.

    Raises:
        ModelError: the detector can't be loaded (before the first file).
        UsageError: the configuration doesn't fit the detector or this machine (before the first file).

    Example::

        for result in scan_folder("clips/"):
            print(result.path, result.verdict or result.error)
    """
    several = [paths] if isinstance(paths, str | PathLike) else paths
    found = find_videos(several)
    if executor is not None:
        with closing(executor):
            for folder, reason in found.unreadable:
                yield unreadable_folder(folder, reason)
            yield from executor.scan(found.videos, progress)
        return
    with Scanner(config, detector=detector) as scanner:
        if found.videos:
            scanner.load()
        for folder, reason in found.unreadable:
            yield unreadable_folder(folder, reason)
        yield from scan_files(scanner, found.videos, progress)


def scan_files(
    scanner: Scanner, paths: Iterable[str | PathLike[str]], progress: FolderProgress | None = None
) -> Generator[VideoResult, None, None]:
    """Scans many files; close the generator to stop early. What is wrong with one of them is told in its result.

    Args:
        scanner: several files go through it at once.
        paths: of the files.
        progress: called with (path, frames done, frames wanted if known).

    Yields:
        One result a file, in their order.

    Raises:
        ModelError: the detector can't be loaded.
        UsageError: the configuration doesn't fit the detector or this machine.
    """
    with closing(scanner.scan_each(paths, progress)) as outcomes:
        for outcome in outcomes:
            yield result_of(outcome)


def result_of(outcome: Outcome) -> VideoResult:
    """The result of a scan, whether or not it came to an end."""
    if outcome.result is not None:
        return outcome.result
    error = outcome.error
    assert error is not None
    logger.debug("%s", outcome.path, exc_info=error)
    if not isinstance(error, TorchfakesError):
        reason = " ".join(str(error).split()) or "no message"
        error = TorchfakesError(f"unexpected {type(error).__name__}: {reason}")
    return failed(outcome.path, error, outcome.elapsed_s)


def failed(path: str | PathLike[str], error: TorchfakesError, elapsed_s: float = 0.0) -> VideoResult:
    """The result that stands for a file that couldn't be scanned; the path isn't repeated in its message."""
    message = f"{error.cause}. {error.advice}" if error.advice else error.cause
    return VideoResult(path=fspath(path), status=Status.ERROR, elapsed_s=elapsed_s, error=message)


def settings_digest(config: ScanConfig, model: str | PathLike[str] | None = None) -> str:
    """Stands for everything besides the video that decides what a scan says.

    That is what the checkpoint holds (not its name), the sampling, the settings of faces and verdict, and the version
    of this program. The device and the limits of time and memory don't count: they decide whether and how fast there
    is a result.

    Args:
        config: of the scan.
        model: path or name of a checkpoint; None for the detector that ships. One that can't be read counts as empty,
            for the scan itself will tell what is wrong with it.

    Raises:
        ModelNotFoundError: no detector ships with this installation.
    """
    if model is None:
        from torchfakes_cli.detector.registry import shipped_checkpoint

        model = shipped_checkpoint()
    digest = hashlib.sha256()
    try:
        with find_checkpoint(model).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except (OSError, ModelNotFoundError):
        logger.debug("%s can't be read", model, exc_info=True)
    parts = [asdict(part) for part in (config.sampling, config.faces, config.verdict)]
    digest.update(json.dumps([__version__, *parts], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def stamp_of(
    path: str | PathLike[str],
    settings: str,
    timeline: str | PathLike[str] = "",
    page: str | PathLike[str] = "",
    *,
    state: State | None = None,
) -> Stamp:
    """What the row of a file depends on, as the file is now; take it before the scan.

    Args:
        path: of the file.
        settings: see ``settings_digest``.
        timeline: where its timeline goes; empty where none is wanted.
        page: where its page goes; empty likewise.
        state: what the search has learnt of a file elsewhere.
    """
    size, mtime_ns = state or (None, None)
    try:
        if state is None:
            status = Path(path).stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
    except (OSError, ValueError):
        logger.debug("%s can't be asked", path, exc_info=True)
    return Stamp(size, mtime_ns, settings, fspath(timeline), fspath(page))


def unreadable_folder(folder: str, reason: str) -> VideoResult:
    """The result that stands for a folder that couldn't be listed: what lies in it wasn't scanned."""
    cause = f"the folder can't be listed: {reason}"
    return failed(folder, UnreadableFileError(cause, advice="Check its permissions."))
