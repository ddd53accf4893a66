"""Batches: scan many files into timelines, a table and reports, and resume interrupted runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import ModelNotFoundError, TorchfakesError, UnreadableFileError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report import BatchTable, Stamp, check_batch_target, check_timeline_targets, write_timeline
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.discovery import Finds, find_videos
from torchfakes_cli.scan.output_paths import mirrored_paths, report_paths
from torchfakes_cli.scan.pages import Pages, ReportFolder, check_pages
from torchfakes_cli.scan.remote_files import is_url
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.scan.scheduler import FolderProgress, failed
from torchfakes_cli.version import __version__
from torchfakes_cli.video.options import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.report import BatchRow
    from torchfakes_cli.scan.remote_files import State
    from torchfakes_cli.scan.workers import WorkerPool

logger = logging.getLogger(__name__)


def scan_folder(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]],
    config: ScanConfig | None = None,
    *,
    detector: Detector | None = None,
    progress: FolderProgress | None = None,
    executor: WorkerPool | None = None,
) -> Generator[VideoResult, None, None]:
    """Scan files and all videos in folders.

    Args:
        paths: one or more files and folders, as ``find_videos`` takes them.
        config: configuration of the scans; None for the defaults.
        detector: loaded detector; None loads the shipped one.
        progress: called with (path, frames done, frames wanted if known); several files are scanned at once.
        executor: worker pool that scans in place of this process, with its own settings, from ``on_devices`` or
            ``on_ray``. It is closed at the end, and ``progress`` isn't called.

    Yields:
        One result per file as soon as it is known; in the order of the files unless an ``executor`` scans them. A file
        that can't be scanned, or a folder that can't be listed, has status ``error``.

    Raises:
        ModelError: the detector can't be loaded (before the first file).
        UsageError: the configuration doesn't fit the detector or this machine (before the first file).

    Example::

        for result in scan_folder("clips/"):
            print(result.path, result.verdict or result.error)
    """
    found = find_videos([paths] if isinstance(paths, str | PathLike) else paths)
    if executor is not None:
        with closing(executor):
            yield from map(_unreadable, found.unreadable)
            yield from executor.scan(found.videos)
        return
    with Scanner(config, detector=detector) as scanner:
        if found.videos:
            scanner.load()
        yield from map(_unreadable, found.unreadable)
        yield from scanner.scan_each(found.videos, progress)


def scan_to_table(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]],
    table: str | PathLike[str],
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    timelines: str | PathLike[str] | None = None,
    force: bool = False,
    prune: bool = False,
    progress: FolderProgress | None = None,
    executor: WorkerPool | None = None,
) -> Generator[VideoResult, None, None]:
    """Scan files and all videos in folders into a table; a later call with the same arguments resumes it.

    Each row is on disk before its result is yielded. A file is not scanned again if the table has a row for the same
    version of the file, model, settings, kind of device and precision. Rows of other files stay, and the new rows come
    after them, at the end in the order of the files.

    Args:
        paths: one or more files and folders, as ``find_videos`` takes them.
        table: file to write, with one row per file; its suffix selects CSV, ``.jsonl``, ``.sqlite`` or ``.parquet``.
        config: configuration of the scans; None for the defaults.
        model: path or name of a checkpoint; None for the shipped one.
        timelines: folder for CSV timelines, one per video; None writes none.
        force: discard an earlier table and replace existing files.
        prune: remove the rows of files that are gone.
        progress: called with (path, frames done, frames wanted if known); several files are scanned at once.
        executor: worker pool, as for ``scan_folder``; its settings and model must be those given here.

    Yields:
        Results of the files that are scanned in this call.

    Raises:
        OutputError: a file can't be written; rows written earlier remain.
        ModelError: the detector can't be loaded (before the first file).
        UsageError: the configuration doesn't fit the detector or this machine (before the first file).

    Example::

        for result in scan_to_table("clips/", "results.csv"):
            print(result.path, result.verdict or result.error)
    """
    given = [fspath(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths)]
    with ExitStack() as stack:
        if executor is not None:
            stack.enter_context(closing(executor))
        scanner = stack.enter_context(Scanner(config, model=model))
        batch = Batch(
            scanner,
            find_videos(given),
            given,
            model=model,
            executor=executor,
            table=fspath(table),
            timelines=None if timelines is None else fspath(timelines),
            force=force,
            prune=prune,
        )
        batch.load()
        stack.enter_context(batch)
        yield from batch.results(progress)


class Batch:
    """Batch scan into timelines, a table and reports; a context manager whose ``results`` method scans.

    Args:
        scanner: scans the files unless an ``executor`` is given, and cuts out the faces of reports; it isn't closed.
        found: files to scan.
        given: files and folders given by the user; output folders mirror the folders below them.
        model: path or name of the scanner's checkpoint; None for the shipped one.
        executor: worker pool that scans; it isn't closed.
        table: path of the table with one row per video; None writes none.
        timelines: folder for timelines; None writes none.
        report: folder for reports; None writes none.
        command: command line to show in reports.
        force: replace other files, and discard an earlier table.
        prune: remove the rows of files that are gone from the table.

    Attributes:
        earlier: table, with counts of the rows of earlier runs; None without a table.
        kept: rows of an earlier run, by path, whose files aren't scanned again.
        pending: paths without a row, in the order of their results; an executor yields results in any order.
        tally: number of files by verdict, or ``error``, including kept rows.

    Raises:
        OutputError: an output can't be written, or would replace another file.
        UsageError: the outputs contradict each other.
    """

    def __init__(
        self,
        scanner: Scanner,
        found: Finds,
        given: Sequence[str],
        *,
        model: str | PathLike[str] | None = None,
        executor: WorkerPool | None = None,
        table: str | None = None,
        timelines: str | None = None,
        report: str | None = None,
        command: str = "",
        force: bool = False,
        prune: bool = False,
    ) -> None:
        self.earlier: BatchTable | None = None
        self.kept: Mapping[str, BatchRow] = {}
        self.tally: Counter[str] = Counter()
        self._unreadable = dict(found.unreadable)
        self._candidates = [*self._unreadable, *found.videos]
        self.pending = self._candidates
        self._scanner = scanner
        self._executor = executor
        self._found = found
        self._model = model
        self._table = table
        self._command = command
        self._force = force
        self._prune = prune
        self._settings = ""
        self._stack = ExitStack()
        self._pages: Pages | None = None
        self._timelines = {} if timelines is None else mirrored_paths(found.videos, given, timelines)
        self._report_paths = report_paths(report, found.videos, given)
        self._report = ReportFolder(report, self._report_paths)
        if table is not None:
            check_batch_target(table, force=force)
        check_timeline_targets(
            (path for video, path in self._timelines.items() if os.path.lexists(video)), force=force, make_folders=True
        )
        check_pages(self._report.targets, force=force)

    def load(self) -> None:
        """Load the networks, so that their errors are raised before any output is written.

        Raises:
            TorchfakesError: the networks can't be used.
        """
        (self._executor or self._scanner).load()
        on = (self._executor or self._scanner).computed_on
        self._settings = settings_digest(self._scanner.config, self._model, on)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._table is not None:
                table = BatchTable(self._table, self._stamps(), force=self._force, prune=self._prune)
                self.earlier = stack.enter_context(table)
                self.kept = table.kept
            if self._report.index is not None:
                self._pages = Pages(self._scanner, self._model, self._command)
            self._stack = stack.pop_all()
        self.tally.update(row.verdict for row in self.kept.values() if row.verdict)
        self.pending = [path for path in self._candidates if path not in self.kept]
        self._report.keep(self.kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def results(self, progress: FolderProgress | None = None) -> Generator[VideoResult, None, None]:
        """Scan the pending files; close the generator to stop early.

        Args:
            progress: called with (path, frames done, frames wanted if known); not called with an executor.

        Yields:
            One result per file, once its outputs are written.

        Raises:
            TorchfakesError: scanning can't continue, or a result can't be written; that result is yielded first.
        """
        videos = [path for path in self.pending if path not in self._unreadable]
        scans = self._scanner.scan_each(videos, progress) if self._executor is None else self._executor.scan(videos)
        try:
            with closing(scans):
                for folder in self._unreadable.items():
                    yield from self._written(_unreadable(folder))
                for result in scans:
                    yield from self._written(result)
        finally:
            self._report.finish(self._candidates, self._pages)

    def _stamps(self) -> dict[str, Stamp]:
        return {
            path: stamp_of(
                path,
                self._settings,
                "" if Path(path).suffix.lower() in PICTURE_SUFFIXES else self._timelines.get(path, ""),
                self._report_paths.get(path, ""),
                state=self._found.states.get(path),
            )
            for path in self._candidates
        }

    def _written(self, result: VideoResult) -> Generator[VideoResult, None, None]:
        """Write the outputs of a result; its table row comes last, because a row marks the other files as complete."""
        outcome = (result.verdict or result.status).value
        logger.info("%s: %s in %.1f s", result.path, outcome, result.elapsed_s)
        self.tally[outcome] += 1
        try:
            timeline = self._timelines.get(result.path)
            if timeline and result.status is Status.OK and not result.is_picture:
                write_timeline(timeline, result.timeline)
            self._report.add(result, self._pages)
            if self.earlier is not None:
                self.earlier.write(result)
        except TorchfakesError:
            yield result
            raise
        yield result


def add_to_table(
    table: str | PathLike[str],
    result: VideoResult,
    stamp: Stamp,
    scanner: Scanner,
    model: str | PathLike[str] | None = None,
    *,
    force: bool = False,
    prune: bool = False,
) -> int:
    """Add the row of one scanned file to a table, or replace its earlier row.

    Args:
        table: path of the table.
        result: result of the file.
        stamp: stamp of the file before the scan, without settings.
        scanner: scanner of the result.
        model: path or name of the scanner's checkpoint; None for the shipped one.
        force: discard an earlier table, or replace another file.
        prune: remove the rows of files that are gone.

    Returns:
        Number of rows removed by ``prune``.

    Raises:
        OutputError: the row can't be written.
    """
    settings = settings_digest(scanner.config, model, scanner.computed_on)
    stamps = {result.path: replace(stamp, settings=settings + stamp.settings)}
    with BatchTable(table, stamps, force=force, prune=prune) as rows:
        rows.write(result)
    return rows.pruned


def settings_digest(config: ScanConfig, model: str | PathLike[str] | None = None, computed_on: str = "") -> str:
    """Return a digest of everything that determines a scan's result besides the video.

    It covers the content of the checkpoint (not its name), the sampling, face and verdict settings, the kind of device,
    the precision, and the version of this program. Limits on time and memory are left out: they don't change a result.

    Args:
        config: configuration of the scan.
        model: path or name of a checkpoint; None for the shipped one. An unreadable one counts as empty, because the
            scan itself reports its error.
        computed_on: device class and precision, from ``Scanner.computed_on``.

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
    digest.update(json.dumps([__version__, computed_on, *parts], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def stamp_of(
    path: str | PathLike[str],
    settings: str = "",
    timeline: str | PathLike[str] = "",
    page: str | PathLike[str] = "",
    *,
    state: State | None = None,
) -> Stamp:
    """Return the stamp of a file's current version, settings and outputs; take it before the scan.

    Args:
        path: path of the file.
        settings: digest from ``settings_digest``.
        timeline: path of its timeline; empty if none is written.
        page: path of its report; empty if none is written.
        state: size and time of change of a remote file. If its store gives neither, the stamp equals no other one,
            because a change of the file can't be detected.
    """
    size, mtime_ns = state or (None, None)
    if state == (None, None):
        settings = f"{settings}, file of unknown version at {time.time_ns()}"
    try:
        if state is None:
            status = Path(path).stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
    except (OSError, ValueError):
        logger.debug("%s has no readable status", path, exc_info=True)
    file = "" if is_url(path) else os.path.abspath(path)  # noqa: PTH100 - links stay links
    return Stamp(size, mtime_ns, settings, fspath(timeline), fspath(page), file)


def _unreadable(folder: tuple[str, str]) -> VideoResult:
    """Return the ``error`` result of a folder that couldn't be listed, given as (path, reason)."""
    path, reason = folder
    cause = f"the folder can't be listed: {reason}"
    return failed(path, UnreadableFileError(cause, advice="Check its permissions."))
