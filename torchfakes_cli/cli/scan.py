"""``torchfakes scan``: verdicts on the terminal; tables, timelines and reports in files."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from torchfakes_cli.cli.backend_options import (
    BackendOptions,
    CopyLimitOption,
    DevicesOption,
    RayOption,
    WorkersOption,
)
from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import (
    DEFAULT_FACES,
    DEFAULT_SAMPLING,
    DEFAULT_SCAN,
    FILES_PANEL,
    OUTPUT_PANEL,
    AnnotateOption,
    BlurThresholdOption,
    DebugOption,
    EndOption,
    ExcludeOption,
    FormatOption,
    FpsOption,
    FramesDirOption,
    FramesOption,
    HwaccelOption,
    IncludeOption,
    JobsOption,
    KeyFramesOption,
    MemoryLimitOption,
    MinFaceOption,
    ModelOption,
    RecursiveOption,
    ReportOption,
    StartOption,
    TableOption,
    ThresholdOption,
    TimelineOption,
    TimelinesOption,
    TimeoutOption,
    VerboseOption,
    command_line,
    paths_from,
    refuse_urls,
    scan_config,
)
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

#: Time of import, soon after the start of the program.
_STARTED = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Options:
    """Options besides the configuration of the scan."""

    model: str | None
    recursive: bool
    include: list[str]
    exclude: list[str]
    format: Literal["text", "json", "tsv"]
    quiet: bool
    table: str | None
    timeline: str | None
    no_timeline: bool
    timelines: str | None
    annotate: str | None
    frames_dir: str | None
    report: str | None
    force: bool
    prune: bool
    profile: bool


def scan_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Scan videos or pictures, folders of them, the video of a web page (with the extra url), or s3://, "
            "gs:// and other URLs of stores that fsspec reads. - reads a list of paths, by line or separated by NUL.",
            show_default=False,
        ),
    ],
    recursive: RecursiveOption = True,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    allow_urls: Annotated[
        bool,
        typer.Option("--allow-urls", rich_help_panel=FILES_PANEL, help="Open web pages that a list of paths names."),
    ] = False,
    fps: FpsOption = None,
    frames: FramesOption = None,
    start: StartOption = None,
    end: EndOption = None,
    key_frames: KeyFramesOption = DEFAULT_SAMPLING.key_frames,
    min_face: MinFaceOption = DEFAULT_FACES.min_face,
    blur_threshold: BlurThresholdOption = DEFAULT_FACES.blur_threshold,
    threshold: ThresholdOption = None,
    model: ModelOption = None,
    device: DevicesOption = DEFAULT_SCAN.device,
    jobs: JobsOption = None,
    timeout: TimeoutOption = DEFAULT_SCAN.timeout_s,
    hwaccel: HwaccelOption = DEFAULT_SCAN.hwaccel,
    memory_limit: MemoryLimitOption = DEFAULT_SCAN.memory_mb,
    copy_limit: CopyLimitOption = DEFAULT_SCAN.copy_mb,
    ray: RayOption = None,
    workers: WorkersOption = None,
    output: TableOption = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", rich_help_panel=OUTPUT_PANEL, help="Remove rows from the table whose files are gone."),
    ] = False,
    timeline: TimelineOption = None,
    no_timeline: Annotated[
        bool, typer.Option("--no-timeline", rich_help_panel=OUTPUT_PANEL, help="Write no timeline.")
    ] = False,
    timelines: TimelinesOption = None,
    annotate: AnnotateOption = None,
    frames_dir: FramesDirOption = None,
    report: ReportOption = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            rich_help_panel=OUTPUT_PANEL,
            help="Replace existing files of other kinds, and start a batch over.",
        ),
    ] = False,
    format: FormatOption = "text",
    json: Annotated[
        bool, typer.Option("--json", rich_help_panel=OUTPUT_PANEL, help="Print JSON: --format json.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT_PANEL, help="Print nothing but errors.")
    ] = False,
    verbose: VerboseOption = False,
    fail_on_fake: Annotated[
        bool,
        typer.Option(
            "--fail-on-fake",
            rich_help_panel=OUTPUT_PANEL,
            help="Exit with code 4 when any verdict is fake, for scripts.",
        ),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", rich_help_panel=OUTPUT_PANEL, help="Show the time spent in each stage.")
    ] = False,
    debug: DebugOption = False,
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
    with guarded(debug=debug, verbose=verbose):
        listed = [path for given in paths if given == "-" for path in paths_from(sys.stdin.buffer)]
        single = "-" not in paths and _is_single(paths)
        paths = [path for given in paths for path in (listed if given == "-" else [given])]
        backend = BackendOptions(device, ray, workers)
        backend.check(single=single, report=report is not None, profile=profile)
        config = scan_config(
            fps=fps,
            frames=frames,
            start=start,
            end=end,
            key_frames=key_frames,
            min_face=min_face,
            blur_threshold=blur_threshold,
            threshold=threshold,
            device=backend.device_here,
            jobs=jobs,
            timeout=timeout,
            memory_limit=memory_limit,
            hwaccel=hwaccel,
            copy_limit=copy_limit,
        )
        options = _Options(
            model,
            recursive,
            include or [],
            exclude or [],
            "json" if json else format,
            quiet,
            output,
            timeline,
            no_timeline,
            timelines,
            annotate,
            frames_dir,
            report,
            force,
            prune,
            profile,
        )
        _check(paths, [] if allow_urls else listed, options, single=single)
        code = _scan(paths, config, options, backend, single=single, fail_on_fake=fail_on_fake)
    raise typer.Exit(code)


def _is_single(paths: list[str]) -> bool:
    """True if the paths name a single file rather than a folder or several files.

    Raises:
        UnreadableFileError: a store can't be reached.
    """
    from torchfakes_cli.scan.remote_files import is_folder, is_url

    if len(paths) != 1:
        return False
    return not (is_folder(paths[0]) if is_url(paths[0]) else Path(paths[0]).is_dir())


def _check(paths: list[str], unasked: list[str], options: _Options, *, single: bool) -> None:
    """Refuse options that contradict each other, and URLs: web pages that are ``unasked``, and unsupported ones."""
    from torchfakes_cli.scan.remote_files import is_url, is_web_page, need_yt_dlp

    if options.prune and not options.table:
        raise UsageError("--prune is for the table of -o", advice="Give its path with -o.")
    if sum(map(bool, (options.timeline, options.no_timeline, options.timelines))) > 1:
        raise UsageError("give only one of --timeline, --timelines and --no-timeline")
    if not single:
        if options.timeline:
            raise UsageError("--timeline is for one video", advice="Give --timelines FOLDER for several.")
        if options.annotate:
            raise UsageError("--annotate draws over one video: give the path of a single file")
    for path in filter(is_web_page, unasked):
        raise UsageError(
            "web pages in a list are not opened", path=path, advice="Add --allow-urls if the list is your own."
        )
    urls = set(filter(is_url, paths))
    refuse_urls([path for path in paths if path not in urls])
    if any(map(is_web_page, urls)):
        need_yt_dlp()
    local = "--timelines" if options.timelines else "--report" if options.report else ""
    local = local or ("--frames-dir" if options.frames_dir else "")
    if urls and local and not single:
        raise UsageError(
            f"{local} is for files of this machine, not for several URLs",
            advice="Results of URLs go to the table of -o (its timelines too, as .sqlite) or to --json.",
        )


def _scan(
    paths: list[str],
    config: ScanConfig,
    options: _Options,
    backend: BackendOptions,
    *,
    single: bool,
    fail_on_fake: bool,
) -> ExitCode:
    from torchfakes_cli.cli.console import Screen, profile_table
    from torchfakes_cli.cli.console.batch_view import print_each, print_one, report_earlier, rows, summarize
    from torchfakes_cli.scan.scanner import Scanner

    logger.info("torchfakes %s: model %s, %s", __version__, options.model or "that ships", config)
    screen = Screen(quiet=options.quiet)
    found = _find(paths, screen, options)
    with screen.progress("starting"), ExitStack() as stack:
        scanner = stack.enter_context(Scanner(config, model=options.model))
        pool = backend.pool(config, options.model)
        if pool:
            stack.enter_context(closing(pool))
        opened = stack.pop_all()
    started = time.monotonic()
    with opened:
        batch = _batch(paths, found, scanner, pool, screen, options, single=single)
        with screen.progress("loading the detector"):
            batch.load()
        try:
            with batch:
                if not single:
                    report_earlier(batch, screen)
                if options.prune and batch.earlier:  # also with --quiet
                    screen.trouble(f"{rows(batch.earlier.pruned)} of files that are gone removed from {options.table}")
                if single:
                    print_one(batch, screen, options.format, bar=not options.annotate)
                else:
                    print_each(batch, pool.place if pool else "", screen, options.format)
        except KeyboardInterrupt:
            if options.table and not single:
                screen.note("to go on from here, run the same command again")
            raise
        finally:
            for name in batch.written:
                screen.note(name)
    if not single:
        places = {
            "results": options.table,
            "reports": options.report and Path(options.report) / "index.html",
            "timelines": options.timelines and f"in {options.timelines}",
            "frames": options.frames_dir and f"in {options.frames_dir}",
        }
        summarize(batch, found, time.monotonic() - started, places, screen)
    if options.profile:
        screen.aside(profile_table(scanner.profile, time.monotonic() - _STARTED))
    if fail_on_fake and batch.tally[Verdict.FAKE]:
        return ExitCode.FAKE_FOUND
    return ExitCode.SOME_FAILED if batch.tally[Status.ERROR] else ExitCode.DONE


def _find(paths: list[str], screen: Screen, options: _Options) -> Finds:
    from torchfakes_cli.scan.discovery import find_videos

    if not paths:
        raise UnreadableFileError(
            "the list of paths is empty", advice="Write one path a line, or separate them by NUL, as find -print0 does."
        )
    with screen.progress("looking for videos"):
        found = find_videos(paths, recursive=options.recursive, include=options.include, exclude=options.exclude)
    unmatched = ", ".join(f"--include {shlex.quote(glob)}" for glob in found.unmatched)
    if not found.videos and not found.unreadable:
        raise UnreadableFileError(
            "no video or picture found" + (f" among {found.skipped} files" if found.skipped else ""),
            path=", ".join(paths),
            advice=f"Nothing matches {unmatched}."
            if unmatched
            else "Name the file itself if it is a video with an unusual suffix.",
        )
    if unmatched:
        screen.warning(f"nothing matches {unmatched}")
    if found.duplicates:
        path, taken = next(iter(found.duplicates.items()))
        screen.note(
            f"further names of files that are scanned: {len(found.duplicates)}, such as {path}, which is {taken}"
        )
    return found


def _batch(
    paths: list[str],
    found: Finds,
    scanner: Scanner,
    pool: WorkerPool | None,
    screen: Screen,
    options: _Options,
    *,
    single: bool,
) -> Batch:
    """Make the batch with the paths of its outputs; those of a single video are checked."""
    from torchfakes_cli.report import check_timeline_targets
    from torchfakes_cli.scan.annotate import check_clip_target
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.output_paths import mirrored_paths, report_path, report_paths, timeline_name
    from torchfakes_cli.scan.remote_files import is_url

    timelines: dict[str, Path] = {}
    if options.timelines:
        timelines = mirrored_paths(found.videos, paths, options.timelines)
    elif single and (options.timeline or (options.format == "text" and not options.no_timeline)):
        timelines = {paths[0]: Path(options.timeline) if options.timeline else timeline_name(paths[0])}
    pages = report_paths(options.report, found.videos, paths) if not single else {}
    if single and options.report:
        pages = {paths[0]: report_path(options.report, paths[0])}
    frames = mirrored_paths(found.videos, paths, options.frames_dir, "") if options.frames_dir else {}
    extras: dict[str, Callable[[VideoResult], None]] = {}
    if single:
        path = paths[0]
        _refuse_one_file_twice(path, options, timelines.get(path), pages.get(path))
        if (options.timeline or options.timelines) and (is_url(path) or os.path.lexists(path)):
            check_timeline_targets(timelines.values(), force=options.force, make_folders=bool(options.timelines))
        if out := options.annotate:
            check_clip_target(out, path, force=options.force)
            extras[f"annotated clip: {out}"] = lambda result: _annotate(result, out, scanner, screen, options)
    elif options.table and os.path.realpath(options.table) in map(os.path.realpath, found.videos):
        raise UsageError("a video and the table can't be one file", path=options.table, advice="Choose another path.")
    return Batch(
        scanner,
        found,
        executor=pool,
        table=options.table,
        timelines=timelines,
        pages=pages,
        report=None if single else options.report,
        frames=frames,
        command=command_line(),
        force=options.force,
        prune=options.prune,
        alone=single,
        extras=extras,
    )


def _refuse_one_file_twice(path: str, options: _Options, timeline: Path | None, page: Path | None) -> None:
    """Refuse two outputs, or the video and an output, that are the same file."""
    files = {"the video": path, "the table": options.table, "the timeline": timeline}
    files |= {"the annotated clip": options.annotate, "the report": page}
    taken: dict[str, str] = {}
    for name, file in files.items():
        if file and not Path(file).is_dir() and (other := taken.setdefault(os.path.realpath(file), name)) != name:
            raise UsageError(f"{other} and {name} can't be one file", path=file, advice="Choose another path.")


def _annotate(result: VideoResult, out: str, scanner: Scanner, screen: Screen, options: _Options) -> None:
    from torchfakes_cli.scan.annotate import annotate_video

    with screen.progress(Path(out).name) as advance:
        notes = annotate_video(
            result.path,
            result,
            out,
            policy=scanner.policy,
            config=scanner.config,
            force=options.force,
            progress=advance,
        )
    for note in notes:
        screen.warning(f"{out}: {note}")
