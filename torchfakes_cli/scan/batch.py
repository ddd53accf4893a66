"""Batches: scan many files into timelines, a table and reports, and resume interrupted runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import MediaError, ModelNotFoundError, TorchfakesError, UnreadableFileError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report import BatchTable, Stamp, check_batch_target, check_timeline_targets, write_timeline
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.discovery import Finds, find_videos
from torchfakes_cli.scan.explain import save_frames
from torchfakes_cli.scan.output_paths import mirrored_paths
from torchfakes_cli.scan.pages import Pages, ReportFolder, check_pages
from torchfakes_cli.scan.remote_files import Copy, is_url, local_copy
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.scan.scheduler import FolderProgress, failed
from torchfakes_cli.version import __version__
from torchfakes_cli.video.options import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.report import BatchRow
    from torchfakes_cli.scan.remote_files import State
    from torchfakes_cli.scan.worker_pool import WorkerPool

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
        found = find_videos(given)
        batch = Batch(
            scanner,
            found,
            executor=executor,
            table=fspath(table),
            timelines=mirrored_paths(found.videos, given, fspath(timelines)) if timelines is not None else {},
            force=force,
            prune=prune,
        )
        batch.load()
        stack.enter_context(batch)
        yield from batch.results(progress)


class Batch:
    """Scan of one or many files into timelines, a table and reports; a context manager whose ``results`` scans.

    Args:
        scanner: scans the files unless an ``executor`` is given, and cuts out the faces of reports; it isn't closed.
        found: files to scan.
        executor: worker pool that scans; it isn't closed.
        table: path of the table with one row per video; None writes none.
        timelines, pages: path of each timeline and of each report, by video.
        report: folder of the index of the reports; None writes none.
        frames: path of the frames to save, without their ending, by video.
        command: command line to show in reports.
        force: replace other files, and discard an earlier table.
        prune: remove the rows of files that are gone from the table.
        alone: the only file was named by the user. It is scanned even if it has a row, its errors are raised, its
            result is yielded before its outputs are written, and an output that fails doesn't prevent the others.
        extras: further outputs of a file ``alone``, by name, made of its result with the path of its local copy.

    Attributes:
        table: table, with counts of the rows of earlier runs; None without a table.
        kept: rows of an earlier run, by path, whose files aren't scanned again.
        pending: paths without a row, in the order of their results; an executor yields results in any order.
        tally: number of files by verdict, or ``error``, including kept rows.
        written: names of the outputs of a file ``alone`` that are written.

    Raises:
        OutputError: an output can't be written, or would replace another file.
        UsageError: the outputs contradict each other.
    """

    def __init__(
        self,
        scanner: Scanner,
        found: Finds,
        *,
        executor: WorkerPool | None = None,
        table: str | None = None,
        timelines: Mapping[str, Path] | None = None,
        pages: Mapping[str, Path] | None = None,
        report: str | None = None,
        frames: Mapping[str, Path] | None = None,
        command: str = "",
        force: bool = False,
        prune: bool = False,
        alone: bool = False,
        extras: Mapping[str, Callable[[VideoResult], None]] | None = None,
    ) -> None:
        self.table: BatchTable | None = None
        self.kept: Mapping[str, BatchRow] = {}
        self.tally: Counter[str] = Counter()
        self.written: list[str] = []
        self._unreadable = dict(found.unreadable)
        self._candidates = [*self._unreadable, *found.videos]
        self.pending = self._candidates
        self._scanner = scanner
        self._executor = executor
        self._found = found
        self._table_path = table
        self._force = force
        self._prune = prune
        self._alone = alone
        self._extras = extras or {}
        self._settings = ""
        self._timelines = timelines or {}
        self._page_paths = pages or {}
        self._frames = frames or {}
        self._report = ReportFolder(Pages(scanner, command), report, self._page_paths)
        if table is not None:
            check_batch_target(table, force=force)
        # No folder is made for a file that is missing.
        there = {path for path in found.videos if is_url(path) or os.path.lexists(path)}
        if not alone:  # those of a file alone are checked when they are written, or by the caller
            check_timeline_targets(_of(self._timelines, there), force=force, make_folders=True)
        check_pages([*([self._report.index] if self._report.index else []), *_of(self._page_paths, there)], force=force)

    def load(self) -> None:
        """Load the networks, so that their errors are raised before any output is written."""
        if self._alone and self._table_path is None:
            return  # they are loaded while the file is opened
        (self._executor or self._scanner).load()
        on = (self._executor or self._scanner).computed_on
        self._settings = settings_digest(self._scanner.config, self._scanner.checkpoint, on)

    def __enter__(self) -> Self:
        if self._table_path is not None:
            self.table = BatchTable(self._table_path, self._stamps(), force=self._force, prune=self._prune).__enter__()
            self.kept = {} if self._alone else self.table.kept
        self.tally.update(row.verdict for row in self.kept.values() if row.verdict)
        self.pending = [path for path in self._candidates if path not in self.kept]
        self._report.keep(self.kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.table:
            self.table.__exit__(kind, error, trace)

    def results(self, progress: FolderProgress | None = None) -> Generator[VideoResult, None, None]:
        """Scan the pending files; close the generator to stop early.

        Args:
            progress: called with (path, frames done, frames wanted if known); not called with an executor.

        Yields:
            One result per file, once its outputs are written.

        Raises:
            TorchfakesError: scanning can't continue, or a result can't be written; that result is yielded first.
        """
        if self._alone:
            yield from self._scan_alone(self.pending[0], progress)
            return
        videos = [path for path in self.pending if path not in self._unreadable]
        scans = self._scanner.scan_each(videos, progress) if self._executor is None else self._executor.scan(videos)
        try:
            with closing(scans):
                for folder in self._unreadable.items():
                    yield from self._write(_unreadable(folder))
                for result in scans:
                    yield from self._write(result)
        finally:
            self._report.finish(self._candidates)

    def _scan_alone(self, path: str, progress: FolderProgress | None) -> Generator[VideoResult, None, None]:
        def advance(done: int, wanted: int | None) -> None:
            if progress:
                progress(path, done, wanted)

        with ExitStack() as stack:  # the copy is there until all outputs are written
            try:
                limit = self._scanner.config.copy_mb << 20
                copy = stack.enter_context(local_copy(path, limit)) if is_url(path) else Copy(path)
                result = self._scanner.scan(copy.path, advance)
            except MediaError as error:
                error.path = path
                yield from self._write(failed(path, error))
                raise
            yield from self._write(replace(result, path=path, source=copy.source), copy.path)

    def _stamps(self) -> dict[str, Stamp]:
        return {
            path: stamp_of(
                path,
                self._settings,
                "" if Path(path).suffix.lower() in PICTURE_SUFFIXES else self._timelines.get(path, ""),
                self._page_paths.get(path, ""),
                self._frames.get(path, ""),
                state=self._found.states.get(path),
            )
            for path in self._candidates
        }

    def _write(self, result: VideoResult, file: str = "") -> Generator[VideoResult, None, None]:
        """Write the outputs of a result, made from the local copy ``file`` of a remote one.

        The row of the table comes last, because a row marks the other files as complete.
        """
        outcome = (result.verdict or result.status).value
        logger.info("%s: %s in %.1f s", result.path, outcome, result.elapsed_s)
        self.tally[outcome] += 1
        if self._alone:  # a full disk must not cost the verdict
            yield result
        errors: list[TorchfakesError] = []
        for name, write in self._writers(result, replace(result, path=file or result.path)):
            if errors and not self._alone:
                break
            try:
                write()
                self.written += [name] if self._alone and name else []
            except TorchfakesError as error:
                errors.append(error)
        if not self._alone:
            yield result
        for another in errors[1:]:
            errors[0].add_note(str(another))
        if errors:
            raise errors[0]

    def _writers(self, result: VideoResult, local: VideoResult) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the name of each output of a result, and what writes it."""
        path, scanned = result.path, result.status is Status.OK
        timeline, frames = self._timelines.get(path), self._frames.get(path)
        if scanned and timeline and not result.is_picture:  # a single moment makes no timeline
            yield f"timeline: {timeline}", lambda: self._write_timeline(timeline, result)
        if scanned:
            for name, write in self._extras.items():
                yield name, partial(write, local)
        if scanned and frames:
            yield f"frames: in {frames.parent}", lambda: self._save_frames(frames, local)
        page = self._page_paths.get(path)
        yield f"report: {page}" if page and scanned else "", lambda: self._report.add(result, local.path)
        if table := self.table:
            yield f"results: {self._table_path}", lambda: table.write(result)

    def _write_timeline(self, path: Path, result: VideoResult) -> None:
        if self._alone:
            check_timeline_targets([path], force=self._force)
        write_timeline(path, result.timeline)

    def _save_frames(self, base: Path, local: VideoResult) -> None:
        try:
            with self._scanner.lent_decoder() as decoder:
                save_frames(base, local, decoder, force=self._force)
        except MediaError as error:  # the file has changed or gone since its scan
            if self._alone:
                raise
            logger.error("no frames are saved: %s", error)


def _of(paths: Mapping[str, Path], videos: Collection[str]) -> list[Path]:
    return [path for video, path in paths.items() if video in videos]


def settings_digest(config: ScanConfig, model: str | PathLike[str] | None = None, computed_on: str = "") -> str:
    """Return a digest of everything that determines a scan's result besides the video.

    It covers the content of the checkpoint (not its name), the sampling, face and verdict settings, the kind of device
    and precision (``computed_on``), and the version of this program. Limits on time and memory are left out: they don't
    change a result. An unreadable checkpoint counts as empty, because the scan itself reports its error.
    """
    checkpoint = ""
    try:
        checkpoint = sha256_of(find_checkpoint(model))
    except (OSError, ModelNotFoundError):
        logger.debug("%s can't be read", model, exc_info=True)
    parts = [asdict(part) for part in (config.sampling, config.faces, config.verdict)]
    text = json.dumps([checkpoint, __version__, computed_on, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def stamp_of(
    path: str | PathLike[str],
    settings: str = "",
    timeline: str | PathLike[str] = "",
    page: str | PathLike[str] = "",
    frames: str | PathLike[str] = "",
    *,
    state: State | None = None,
) -> Stamp:
    """Return the stamp of a file's current version, settings and outputs; take it before the scan.

    The paths of outputs that aren't written are empty. If the store of a remote file gives neither size nor time of
    change (``state``), the stamp equals no other one, because a change of the file can't be detected.
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
    return Stamp(size, mtime_ns, settings, fspath(timeline), fspath(page), file, fspath(frames))


def _unreadable(folder: tuple[str, str]) -> VideoResult:
    """Return the ``error`` result of a folder that couldn't be listed, given as (path, reason)."""
    path, reason = folder
    cause = f"the folder can't be listed: {reason}"
    return failed(path, UnreadableFileError(cause, advice="Check its permissions."))
