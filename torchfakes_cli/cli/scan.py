"""``torchfakes scan``: verdicts on the terminal; tables, timelines and reports in files."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli import options as opt
from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import FILES, JUDGING, LIMITS, OUTPUT, option
from torchfakes_cli.errors import UnreadableFileError, UsageError
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.discovery import Finds
    from torchfakes_cli.scan.scanner import Scanner
    from torchfakes_cli.scan.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

_MACHINES = "Many devices and machines"
#: Time of import, soon after the start of the program.
_STARTED = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Options:
    """Files to scan, and the options besides the configuration of the scan."""

    paths: list[str]
    single: bool
    format: opt.Format
    recursive: bool
    force: bool
    prune: bool
    no_timeline: bool
    profile: bool
    device: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    model: str | None = None
    ray: str | None = None
    workers: int | None = None
    table: str | None = None
    timeline: str | None = None
    timelines: str | None = None
    annotate: str | None = None
    frames_dir: str | None = None
    report: str | None = None

    @property
    def backend(self) -> str:
        """What scans in place of this process; empty for nothing."""
        several = self.device == "all" or "," in self.device
        return "--ray" if self.ray is not None else "several devices" if several else ""


def scan_command(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Scan videos or pictures, folders of them, the video of a web page (with the extra url), or s3://, "
            "gs:// and other URLs of stores that fsspec reads. - reads a list of paths, by line or separated by NUL.",
        ),
    ],
    recursive: Annotated[bool, option(FILES, None, "Search subfolders.", "--recursive/--no-recursive")] = True,
    include: Annotated[
        list[str] | None,
        option(FILES, "GLOB", "Scan only the files of a folder whose names match ('a*.mp4', 'day1/*'). Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, option(FILES, "GLOB", "Leave out files and folders whose names match. Repeatable.")
    ] = None,
    allow_urls: Annotated[
        bool, option(FILES, None, "Open web pages that a list of paths names.", "--allow-urls")
    ] = False,
    fps: opt.Fps = None,
    frames: opt.Frames = None,
    start_s: opt.Start = None,
    end_s: opt.End = None,
    key_frames: opt.KeyFrames = opt.DEFAULT_SAMPLING.key_frames,
    min_face: opt.MinFace = opt.DEFAULT_FACES.min_face,
    blur_threshold: opt.BlurThreshold = opt.DEFAULT_FACES.blur_threshold,
    threshold: opt.Threshold = None,
    model: opt.Model = None,
    device: Annotated[
        str,
        option(
            JUDGING,
            "NAME",
            "Compute on this device: auto, cpu, cuda or cuda:N. For several videos also on several, with a process "
            "each: cuda:0,cuda:1, or all for every CUDA device.",
        ),
    ] = opt.DEFAULT_SCAN.device,
    jobs: Annotated[
        int | None,
        option(
            LIMITS,
            "N",
            "Decode this many videos of a folder at once, in each process that scans.",
            "--jobs",
            "-j",
            default="half of the cores, from 2 to 8",
        ),
    ] = None,
    timeout_s: opt.Timeout = opt.DEFAULT_SCAN.timeout_s,
    hwaccel: opt.Hwaccel = opt.DEFAULT_SCAN.hwaccel,
    memory_mb: opt.MemoryLimit = opt.DEFAULT_SCAN.memory_mb,
    copy_mb: Annotated[
        int,
        option(
            LIMITS,
            "MIB",
            "Give up on a video from a web page, s3:// or another store if it is larger: each is copied for its scan.",
            "--max-download-size",
        ),
    ] = opt.DEFAULT_SCAN.copy_mb,
    ray: Annotated[
        str | None,
        option(
            _MACHINES,
            "ADDRESS",
            "Scan on this Ray cluster, whose machines see the videos under the same paths: its address, auto for "
            "the one of this machine, or local for a new one.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        option(
            _MACHINES,
            "N",
            "Start this many workers on the Ray cluster.",
            default="one a GPU or, without GPUs, one for four cores",
            min=1,
        ),
    ] = None,
    table: Annotated[
        str | None,
        option(
            OUTPUT,
            "FILE",
            "Write a table with a row a file: CSV, or what the ending says: .jsonl, .sqlite (.db) or .parquet. An "
            "existing table grows: unchanged files are not scanned again, and rows of other files stay.",
            "--output",
            "-o",
        ),
    ] = None,
    prune: Annotated[bool, option(OUTPUT, None, "Remove rows from the table whose files are gone.", "--prune")] = False,
    timeline: Annotated[
        str | None,
        option(
            OUTPUT,
            "FILE",
            "Write the timeline, a CSV row for each face in each frame, to this file. For one video.",
            default="NAME.timeline.csv in the current folder",
        ),
    ] = None,
    no_timeline: Annotated[bool, option(OUTPUT, None, "Write no timeline.", "--no-timeline")] = False,
    timelines: Annotated[
        str | None,
        option(
            OUTPUT,
            "FOLDER",
            "Write the timeline of each video into this folder, in subfolders like those of the videos.",
        ),
    ] = None,
    annotate: Annotated[
        str | None,
        option(
            OUTPUT,
            "FILE",
            "Write the clip, an MP4 or MOV with its sound, with a box and the scores of each face drawn over it. "
            "For one video.",
        ),
    ] = None,
    frames_dir: Annotated[
        str | None,
        option(
            OUTPUT,
            "FOLDER",
            "Save representative whole frames of each person in this folder as JPEG, for a reverse image search.",
        ),
    ] = None,
    report: Annotated[
        str | None,
        option(
            OUTPUT,
            "PATH",
            "Write a report to open in a browser: a page for one video; for several a folder, with an index and a "
            "page each.",
        ),
    ] = None,
    force: Annotated[
        bool, option(OUTPUT, None, "Replace existing files of other kinds, and start a batch over.", "--force")
    ] = False,
    format: Annotated[
        opt.Format,
        option(
            OUTPUT,
            None,
            "Print text for people; JSON, timeline included: a document for one video, a line a file for several; "
            "or tab-separated lines: path, verdict, p_fake. With json and tsv a timeline is written only on "
            "request.",
        ),
    ] = "text",
    json: Annotated[bool, option(OUTPUT, None, "Print JSON: --format json.", "--json")] = False,
    quiet: Annotated[bool, option(OUTPUT, None, "Print nothing but errors.", "--quiet", "-q")] = False,
    verbose: Annotated[
        bool, option(OUTPUT, None, "Show a log on stderr: each file, and what is skipped.", "--verbose", "-v")
    ] = False,
    fail_on_fake: Annotated[
        bool, option(OUTPUT, None, "Exit with code 4 when any verdict is fake, for scripts.", "--fail-on-fake")
    ] = False,
    profile: Annotated[bool, option(OUTPUT, None, "Show the time spent in each stage.", "--profile")] = False,
    debug: opt.Debug = False,
) -> None:
    """Scan videos for synthetic faces.

    One video gives its verdict in detail, several give a line each. A folder is searched for videos and pictures,
    folders in it included. A low score is no proof of authenticity.

    Examples:
        torchfakes scan clip.mp4
        torchfakes scan FOLDER -o results.csv
        torchfakes scan clip.mp4 --report clip.html
        find FOLDER -mtime -1 -print0 | torchfakes scan - -o results.sqlite
    """
    with guarded(debug=debug, verbose=verbose, quiet=quiet) as screen:
        listed = [path for given in paths if given == "-" for path in opt.paths_from(sys.stdin.buffer)]
        single = "-" not in paths and _is_single(paths)
        paths = [path for given in paths for path in (listed if given == "-" else [given])]
        form = "json" if json else format
        options = opt.configured(_Options, context, paths=paths, single=single, format=form)
        _check(options, [] if allow_urls else listed)
        config = opt.scan_config(context, device=_device_here(options))
        tally = _scan(options, config, screen)
        if fail_on_fake and tally[Verdict.FAKE]:
            raise typer.Exit(ExitCode.FAKE_FOUND)
        raise typer.Exit(ExitCode.SOME_FAILED if tally[Status.ERROR] else ExitCode.DONE)


def _is_single(paths: list[str]) -> bool:
    """True if the paths name a single file rather than a folder or several files.

    Raises:
        UnreadableFileError: a store can't be reached.
    """
    from torchfakes_cli.scan.remote_files import is_folder, is_url

    if len(paths) != 1:
        return False
    return not (is_folder(paths[0]) if is_url(paths[0]) else Path(paths[0]).is_dir())


def _check(options: _Options, unasked: list[str]) -> None:
    """Refuse options that contradict each other, and URLs: web pages that are ``unasked``, and unsupported ones."""
    from torchfakes_cli.scan.remote_files import is_url, is_web_page, need_yt_dlp

    if options.workers is not None and options.ray is None:
        raise UsageError("--workers are those of a Ray cluster", advice="Give its address with --ray.")
    if options.backend and options.single:
        cause = f"{options.backend} would scan one video"
        raise UsageError(cause, advice="Give a folder or several videos, or leave it out.")
    if options.backend and options.profile:
        raise UsageError(f"--profile tells of one process, and {options.backend} takes several")
    if options.ray is not None and options.report:
        advice = "Scan without it; then report on the videos that matter."
        raise UsageError("--report is not written on a Ray cluster", advice=advice)
    if options.prune and not options.table:
        raise UsageError("--prune is for the table of -o", advice="Give its path with -o.")
    if sum(map(bool, (options.timeline, options.no_timeline, options.timelines))) > 1:
        raise UsageError("give only one of --timeline, --timelines and --no-timeline")
    if options.timeline and not options.single:
        raise UsageError("--timeline is for one video", advice="Give --timelines FOLDER for several.")
    if options.annotate and not options.single:
        raise UsageError("--annotate draws over one video: give the path of a single file")
    for path in filter(is_web_page, unasked):
        advice = "Add --allow-urls if the list is your own."
        raise UsageError("web pages in a list are not opened", path=path, advice=advice)
    urls = set(filter(is_url, options.paths))
    opt.refuse_urls([path for path in options.paths if path not in urls])
    if any(map(is_web_page, urls)):
        need_yt_dlp()
    for name in ("timelines", "report", "frames_dir"):
        if urls and getattr(options, name) and not options.single:
            raise UsageError(
                f"--{name.replace('_', '-')} is for files of this machine, not for several URLs",
                advice="Results of URLs go to the table of -o (its timelines too, as .sqlite) or to --json.",
            )


def _device_here(options: _Options) -> str:
    """Return the device of this process, which computes for reports even if workers scan."""
    if options.backend and options.ray is None:
        from torchfakes_cli.scan.worker_pool import named_devices

        return named_devices(options.device)[0]
    return options.device


def _pool(options: _Options, config: ScanConfig) -> WorkerPool | None:
    """Make the worker pool of the batch; None if this process scans it."""
    from torchfakes_cli.scan.ray_backend import on_ray
    from torchfakes_cli.scan.worker_pool import on_devices

    if options.ray is not None:
        return on_ray(options.ray, config, model=options.model, workers=options.workers)
    return on_devices(config, devices=options.device, model=options.model) if options.backend else None


def _scan(options: _Options, config: ScanConfig, screen: Screen) -> Counter[str]:
    """Scan and print; return the number of files by verdict, or ``error``."""
    from torchfakes_cli.cli.console.scan_view import (
        print_each,
        print_one,
        print_totals,
        profile_table,
        report_earlier,
        rows,
    )
    from torchfakes_cli.scan.scanner import Scanner

    logger.info("torchfakes %s: model %s, %s", __version__, options.model or "that ships", config)
    found = _find(options, screen)
    with ExitStack() as stack:
        with screen.progress("starting"):
            scanner = stack.enter_context(Scanner(config, model=options.model))
            if pool := _pool(options, config):
                stack.enter_context(closing(pool))
        started = time.monotonic()
        batch = _batch(options, found, scanner, pool, screen)
        with screen.progress("loading the detector"):
            batch.load()
        try:
            with batch:
                if not options.single:
                    report_earlier(batch, screen)
                if options.prune and batch.table:  # also with --quiet
                    screen.trouble(f"{rows(batch.table.pruned)} of files that are gone removed from {options.table}")
                if options.single:
                    print_one(batch, screen, options.format, bar=not options.annotate)
                else:
                    print_each(batch, pool.place if pool else "", screen, options.format)
        except KeyboardInterrupt:
            if options.table and not options.single:
                screen.note("to go on from here, run the same command again")
            raise
        finally:
            for name in batch.written:
                screen.note(name)
    if not options.single:
        places = {
            "results": options.table,
            "reports": options.report and Path(options.report) / "index.html",
            "timelines": options.timelines and f"in {options.timelines}",
            "frames": options.frames_dir and f"in {options.frames_dir}",
        }
        print_totals(batch, found, time.monotonic() - started, places, screen)
    if options.profile:
        screen.aside(profile_table(scanner.profile, time.monotonic() - _STARTED))
    return batch.tally


def _find(options: _Options, screen: Screen) -> Finds:
    from torchfakes_cli.scan.discovery import find_videos

    if not options.paths:
        advice = "Write one path a line, or separate them by NUL, as find -print0 does."
        raise UnreadableFileError("the list of paths is empty", advice=advice)
    with screen.progress("looking for videos"):
        found = find_videos(
            options.paths, recursive=options.recursive, include=options.include, exclude=options.exclude
        )
    unmatched = ", ".join(f"--include {shlex.quote(glob)}" for glob in found.unmatched)
    if not found.videos and not found.unreadable:
        cause = "no video or picture found" + (f" among {found.skipped} files" if found.skipped else "")
        advice = "Name the file itself if it is a video with an unusual suffix."
        advice = f"Nothing matches {unmatched}." if unmatched else advice
        raise UnreadableFileError(cause, path=", ".join(options.paths), advice=advice)
    if unmatched:
        screen.warning(f"nothing matches {unmatched}")
    for path, taken in list(found.duplicates.items())[:1]:
        names = f"{len(found.duplicates)}, such as {path}, which is {taken}"
        screen.note(f"further names of files that are scanned: {names}")
    return found


def _batch(options: _Options, found: Finds, scanner: Scanner, pool: WorkerPool | None, screen: Screen) -> Batch:
    """Make the batch with the paths of its outputs; those of a single video are checked."""
    from torchfakes_cli.report import check_timeline_targets
    from torchfakes_cli.scan.annotate import check_clip_target
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.output_paths import mirrored_paths, report_path, report_paths, timeline_name
    from torchfakes_cli.scan.remote_files import is_url

    paths, path, force = options.paths, options.paths[0], options.force
    timelines: dict[str, Path] = {}
    if options.timelines:
        timelines = mirrored_paths(found.videos, paths, options.timelines)
    elif options.single and (options.timeline or (options.format == "text" and not options.no_timeline)):
        timelines = {path: Path(options.timeline) if options.timeline else timeline_name(path)}
    frames = mirrored_paths(found.videos, paths, options.frames_dir, "") if options.frames_dir else {}
    extras: dict[str, Callable[[VideoResult], None]] = {}
    if options.single:
        pages = {path: report_path(options.report, path)} if options.report else {}
        _refuse_one_file_twice(options, timelines.get(path), pages.get(path))
        if (options.timeline or options.timelines) and (is_url(path) or os.path.lexists(path)):
            check_timeline_targets(timelines.values(), force=force, make_folders=bool(options.timelines))
        if clip := options.annotate:
            check_clip_target(clip, path, force=force)
            extras[f"annotated clip: {clip}"] = partial(_annotate, clip, scanner, screen, force)
    else:
        pages = report_paths(options.report, found.videos, paths)
        if options.table and os.path.realpath(options.table) in map(os.path.realpath, found.videos):
            advice = "Choose another path."
            raise UsageError("a video and the table can't be one file", path=options.table, advice=advice)
    return Batch(
        scanner,
        found,
        executor=pool,
        table=options.table,
        timelines=timelines,
        pages=pages,
        report=None if options.single else options.report,
        frames=frames,
        command=opt.command_line(),
        force=force,
        prune=options.prune,
        alone=options.single,
        extras=extras,
    )


def _refuse_one_file_twice(options: _Options, timeline: Path | None, page: Path | None) -> None:
    """Refuse two outputs of a single video, or the video and an output, that are the same file."""
    files = {"the video": options.paths[0], "the table": options.table, "the timeline": timeline}
    files |= {"the annotated clip": options.annotate, "the report": page}
    taken: dict[str, str] = {}
    for name, file in files.items():
        if file and not Path(file).is_dir() and (other := taken.setdefault(os.path.realpath(file), name)) != name:
            raise UsageError(f"{other} and {name} can't be one file", path=file, advice="Choose another path.")


def _annotate(clip: str, scanner: Scanner, screen: Screen, force: bool, result: VideoResult) -> None:
    from torchfakes_cli.scan.annotate import annotate_video

    with screen.progress(Path(clip).name) as advance:
        policy, config = scanner.policy, scanner.config
        notes = annotate_video(result.path, result, clip, policy=policy, config=config, force=force, progress=advance)
    for note in notes:
        screen.warning(f"{clip}: {note}")
