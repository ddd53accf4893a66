"""Batches: scan many files into timelines, a table and reports, and continue where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import ModelNotFoundError, TorchfakesError, UnreadableFileError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report import BatchTable, Stamp, check_batch_target, check_timeline_targets, write_timeline
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.discovery import Finds, find_videos
from torchfakes_cli.scan.output_paths import mirrored_paths, report_paths, timeline_paths
from torchfakes_cli.scan.pages import Pages, ReportFolder, check_pages
from torchfakes_cli.scan.remote_files import is_url
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.scan.scheduler import FolderProgress, failed, result_of
from torchfakes_cli.scan.workers import computed_on
from torchfakes_cli.version import __version__

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
    """Scan every video below some folders, and every file that is named.

    Args:
        paths: one path or several; see ``find_videos`` for what is taken and in which order.
        config: None for the defaults.
        detector: None loads the one that ships, once.
        progress: called with (path, frames done, frames wanted if known); several files are scanned at once.
        executor: worker pool that scans in place of this process, with its own settings; see ``on_devices`` and
            ``on_ray``. It is closed at the end, and ``progress`` isn't called.

    Yields:
        One result per file, as soon as it is known; in the order of the files, if this process scans them. A file that
        can't be scanned, or a folder that can't be listed, has status ``error``.

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
        yield from scan_files(scanner, found.videos, progress)


def scan_to_table(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]],
    table: str | PathLike[str],
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    timelines: str | PathLike[str] | None = None,
    force: bool = False,
    progress: FolderProgress | None = None,
    executor: WorkerPool | None = None,
) -> Generator[VideoResult, None, None]:
    """Scan as ``scan_folder`` does, into a table that a later call with the same arguments continues.

    A row is on the disk when its result is yielded. Files whose row is there already, made from the same version of the
    file, with the same model, settings, kind of device and precision, are not scanned again. At the end rows are in the
    order of the files.

    Args:
        paths: one path or several, see ``find_videos``.
        table: file to write, with one row per file; its ending selects CSV, ``.jsonl``, ``.sqlite`` or ``.parquet``.
        config: None for the defaults.
        model: path or name of a checkpoint; None for the one that ships.
        timelines: folder for the timeline of each video, as CSV; None for none.
        force: start over, and replace what is there.
        progress: see ``scan_folder``.
        executor: see ``scan_folder``; its settings and model must be those given here.

    Yields:
        Results of the files that are scanned in this call.

    Raises:
        OutputError: a file can't be written; rows that were written stay.
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
        )
        batch.load()
        stack.enter_context(batch)
        yield from batch.results(progress)


class Batch:
    """Scan files into timelines, a table and reports; a context manager, in which ``results`` scans.

    Args:
        scanner: scans, where there is no ``executor``, and cuts out the faces of reports; it isn't closed.
        found: the files.
        given: paths below which they were found; folders of outputs mirror those below them.
        model: path or name of the checkpoint of the scanner; None for the one that ships.
        executor: worker pool that scans; it isn't closed.
        table: file with one row per video; None for none.
        timelines: folder for timelines; None for none there.
        beside: write timelines beside the videos where ``timelines`` is None.
        report: folder for reports; None for none.
        command: command line to show in reports.
        force: replace other files in the way, and start the table over.

    Attributes:
        earlier: table with what became of the rows of an earlier run; None without a table.
        kept: rows of an earlier run, by path, whose files aren't scanned again.
        pending: paths without a row, in the order of their results; with an executor results come in any order.
        tally: number of files by verdict, or ``error``; those kept included.

    Raises:
        OutputError: an output can't be written, or would replace something else.
        UsageError: the outputs don't go together.
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
        beside: bool = False,
        report: str | None = None,
        command: str = "",
        force: bool = False,
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
        self._settings = ""
        self._stack = ExitStack()
        self._pages: Pages | None = None
        self._timelines: dict[str, Path] = {}
        if timelines is not None:
            self._timelines = mirrored_paths(found.videos, given, timelines)
        elif beside:
            self._timelines = timeline_paths(video for video in found.videos if not is_url(video))
        self._report_paths = report_paths(report, found.videos, given)
        self._report = ReportFolder(report, self._report_paths)
        if table is not None:
            check_batch_target(table, self._candidates, force=force)
        check_timeline_targets(
            (path for video, path in self._timelines.items() if os.path.lexists(video)),
            force=force,
            make_folders=timelines is not None,
        )
        check_pages(self._report.targets, force=force)

    def load(self) -> None:
        """Load the networks, so that what is wrong with them shows before anything is written.

        Raises:
            TorchfakesError: they can't be used.
        """
        (self._executor or self._scanner).load()
        on = computed_on(self._scanner) if self._executor is None else self._executor.computed_on
        self._settings = settings_digest(self._scanner.config, self._model, on)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._table is not None:
                table = BatchTable(self._table, self._stamps(), force=self._force)
                self.earlier = stack.enter_context(table)
                self.kept = table.kept
            if self._report.index is not None:
                self._pages = stack.enter_context(Pages(self._scanner, self._model, self._command))
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
            progress: called with (path, frames done, frames wanted if known), without an executor.

        Yields:
            One result per file, when its files are written.

        Raises:
            TorchfakesError: nothing can be scanned any more, or a result can't be written. It is yielded first.
        """
        videos = [path for path in self.pending if path not in self._unreadable]
        scans = scan_files(self._scanner, videos, progress) if self._executor is None else self._executor.scan(videos)
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
                self._timelines.get(path, ""),
                self._report_paths.get(path, ""),
                state=self._found.states.get(path),
            )
            for path in self._candidates
        }

    def _written(self, result: VideoResult) -> Generator[VideoResult, None, None]:
        """Write what is to last of a result: its row comes last, because it vouches for the other files."""
        self.tally[(result.verdict or result.status).value] += 1
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


def scan_files(
    scanner: Scanner, paths: Iterable[str | PathLike[str]], progress: FolderProgress | None = None
) -> Generator[VideoResult, None, None]:
    """Scan many files; close the generator to stop early. A file that can't be scanned has status ``error``.

    Args:
        scanner: several files go through it at once.
        paths: of the files.
        progress: called with (path, frames done, frames wanted if known).

    Yields:
        One result per file, in their order.

    Raises:
        ModelError: the detector can't be loaded.
        UsageError: the configuration doesn't fit the detector or this machine.
    """
    with closing(scanner.scan_each(paths, progress)) as outcomes:
        for outcome in outcomes:
            yield result_of(outcome)


def settings_digest(config: ScanConfig, model: str | PathLike[str] | None = None, computed_on: str = "") -> str:
    """Digest of everything besides the video that decides what a scan says.

    That is the content of the checkpoint (not its name), the sampling, the settings of faces and verdict, the kind of
    device and precision, and the version of this program. Limits of time and memory don't count: they decide whether
    there is a result.

    Args:
        config: of the scan.
        model: path or name of a checkpoint; None for the detector that ships. One that can't be read counts as empty:
            the scan itself reports what is wrong with it.
        computed_on: device class and precision, see ``workers.computed_on``.

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
        timeline: path of its timeline; empty where none is wanted.
        page: path of its report; empty where none is wanted.
        state: size and time of a remote file. Where its store tells neither, the stamp equals no other one, because
            nothing shows whether the file has changed.
    """
    size, mtime_ns = state or (None, None)
    if state == (None, None):
        settings = f"{settings}, file of unknown version at {time.time_ns()}"
    try:
        if state is None:
            status = Path(path).stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
    except (OSError, ValueError):
        logger.debug("%s can't be asked", path, exc_info=True)
    return Stamp(size, mtime_ns, settings, fspath(timeline), fspath(page))


def _unreadable(folder: tuple[str, str]) -> VideoResult:
    """The result of a folder that couldn't be listed: what lies in it wasn't scanned."""
    path, reason = folder
    cause = f"the folder can't be listed: {reason}"
    return failed(path, UnreadableFileError(cause, advice="Check its permissions."))
