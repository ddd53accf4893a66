"""``torchfakes scan``: verdicts on the terminal; tables, timelines and reports in files."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
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
from torchfakes_cli.cli.exit_codes import ExitCode, guarded, show_error
from torchfakes_cli.cli.options import (
    DEFAULT_FACES,
    DEFAULT_SAMPLING,
    DEFAULT_SCAN,
    LIMITS_PANEL,
    OUTPUT_PANEL,
    BlurThresholdOption,
    DebugOption,
    EndOption,
    FpsOption,
    FramesOption,
    HwaccelOption,
    KeyFramesOption,
    MemoryLimitOption,
    MinFaceOption,
    ModelOption,
    StartOption,
    ThresholdOption,
    TimeoutOption,
    VerboseOption,
    command_line,
    paths_from,
    refuse_urls,
    scan_config,
)
from torchfakes_cli.errors import MediaError, TorchfakesError, UnreadableFileError, UsageError
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.report import BatchTable
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.discovery import Finds
    from torchfakes_cli.scan.scanner import Scanner

logger = logging.getLogger(__name__)

_FILES = "Which files"

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
    recursive: Annotated[
        bool,
        typer.Option("--recursive/--no-recursive", rich_help_panel=_FILES, help="Search subfolders."),
    ] = True,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            rich_help_panel=_FILES,
            help="Scan only the files of a folder whose names match ('a*.mp4', 'day1/*'). Repeatable.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            rich_help_panel=_FILES,
            help="Leave out files and folders whose names match. Repeatable.",
            show_default=False,
        ),
    ] = None,
    allow_urls: Annotated[
        bool,
        typer.Option("--allow-urls", rich_help_panel=_FILES, help="Open web pages that a list of paths names."),
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
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            rich_help_panel=LIMITS_PANEL,
            help="Decode this many videos of a folder at once, in each process that scans.",
            show_default="half of the cores, from 2 to 8",
        ),
    ] = None,
    timeout: TimeoutOption = DEFAULT_SCAN.timeout_s,
    hwaccel: HwaccelOption = DEFAULT_SCAN.hwaccel,
    memory_limit: MemoryLimitOption = DEFAULT_SCAN.memory_mb,
    copy_limit: CopyLimitOption = DEFAULT_SCAN.copy_mb,
    ray: RayOption = None,
    workers: WorkersOption = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write a table with a row a file: CSV, or what the ending says: .jsonl, .sqlite (.db) or .parquet. "
            "An existing table grows: unchanged files are not scanned again, and rows of other files stay.",
            show_default=False,
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", rich_help_panel=OUTPUT_PANEL, help="Remove rows from the table whose files are gone."),
    ] = False,
    timeline: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write the timeline, a CSV row for each face in each frame, to this file. For one video.",
            show_default="NAME.timeline.csv in the current folder",
        ),
    ] = None,
    no_timeline: Annotated[
        bool, typer.Option("--no-timeline", rich_help_panel=OUTPUT_PANEL, help="Write no timeline.")
    ] = False,
    timelines: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=OUTPUT_PANEL,
            help="Write the timeline of each video into this folder, in subfolders like those of the videos.",
            show_default=False,
        ),
    ] = None,
    annotate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write the clip, an MP4 or MOV with its sound, with a box and the scores of each face drawn over it. "
            "For one video.",
            show_default=False,
        ),
    ] = None,
    frames_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=OUTPUT_PANEL,
            help="Save the most telling whole frames of each person in this folder as JPEG, as for a reverse image "
            "search.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=OUTPUT_PANEL,
            help="Write a report to open in a browser: a page for one video; for several a folder, with an index and a "
            "page each.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            rich_help_panel=OUTPUT_PANEL,
            help="Replace existing files of other kinds, and start a batch over.",
        ),
    ] = False,
    format: Annotated[
        Literal["text", "json", "tsv"],
        typer.Option(
            rich_help_panel=OUTPUT_PANEL,
            help="Print text for people; JSON, timeline included: a document for one video, a line a file for several; "
            "or tab-separated lines: path, verdict, p_fake. With json and tsv a timeline is written only on request.",
        ),
    ] = "text",
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
    """Refuse options that contradict each other, and URLs that aren't supported.

    Args:
        paths: paths to scan.
        unasked: those whose web pages the user hasn't asked to open.
        options: options of the command.
        single: True if a single file is scanned.

    Raises:
        UsageError: options or URLs are refused.
    """
    from torchfakes_cli.scan.remote_files import is_url
    from torchfakes_cli.scan.web_pages import is_web_page, need_yt_dlp

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
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.scan.scanner import Scanner

    logger.info("torchfakes %s: model %s, %s", __version__, options.model or "that ships", config)
    screen = Screen(quiet=options.quiet)
    with screen.progress("starting"):
        scanner = Scanner(config, model=options.model)
    with scanner:
        if single:
            tally = _scan_one(paths[0], scanner, screen, options)
        else:
            tally = _scan_many(paths, scanner, backend, screen, options)
    if options.profile:
        from torchfakes_cli.cli.console import profile_table

        screen.aside(profile_table(scanner.profile, time.monotonic() - _STARTED, _time_of_ended_processes()))
    if fail_on_fake and tally[Verdict.FAKE]:
        return ExitCode.FAKE_FOUND
    return ExitCode.SOME_FAILED if tally[Status.ERROR] else ExitCode.DONE


def _time_of_ended_processes() -> float | None:
    """Processor time of the child processes that have ended; None where the system doesn't report it."""
    if sys.platform == "win32":
        return None
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _scan_one(path: str, scanner: Scanner, screen: Screen, options: _Options) -> Counter[str]:
    from torchfakes_cli.cli.console import show_verdict
    from torchfakes_cli.report import check_batch_target, check_timeline_targets, write_timeline
    from torchfakes_cli.scan.batch import add_to_table, stamp_of
    from torchfakes_cli.scan.output_paths import mirrored_paths, report_path, timeline_name
    from torchfakes_cli.scan.pages import Pages, check_pages
    from torchfakes_cli.scan.remote_files import Copy, is_url, local_copy, state_of
    from torchfakes_cli.scan.scheduler import failed

    asked = options.timeline or options.timelines
    timeline = None
    if options.timelines:
        timeline = mirrored_paths([path], [path], options.timelines)[path]
    elif not options.no_timeline and (asked or options.format == "text"):
        timeline = Path(options.timeline) if options.timeline else timeline_name(path)
    page = report_path(options.report, path) if options.report else None
    _refuse_one_file_twice(path, options, timeline)
    remote = is_url(path)
    if remote or os.path.lexists(path):
        if timeline and asked:
            check_timeline_targets([timeline], force=options.force, make_folders=bool(options.timelines))
        if page:
            check_pages([page], force=options.force)
    if options.table:
        check_batch_target(options.table, force=options.force)
    if options.annotate:
        from torchfakes_cli.scan.annotate import check_clip_target

        check_clip_target(options.annotate, path, force=options.force)
    stamp = stamp_of(path, state=state_of(path) if remote else None)

    def add_row(result: VideoResult) -> None:
        if options.table:
            pruned = add_to_table(
                options.table, result, stamp, scanner, options.model, force=options.force, prune=options.prune
            )
            _report_pruned(pruned, options, screen)

    with ExitStack() as stack:
        try:
            with screen.progress(Path(path).name) as advance:
                copy = stack.enter_context(local_copy(path, scanner.config.copy_mb << 20)) if remote else Copy(path)
                result = replace(scanner.scan(copy.path, advance), path=path, source=copy.source)
        except MediaError as error:
            error.path = path
            failure = failed(path, error)
            _print(failure, screen, options, None, one_line=False)
            add_row(failure)
            raise
        # Before anything is written: a full disk must not cost the verdict.
        _print(result, screen, options, lambda: show_verdict(result, screen), one_line=False)
        _warn(result, screen)

        def write_page(page: Path) -> None:
            with screen.progress("report"):
                pages = Pages(scanner, options.model, command_line())
                pages.write(page, replace(result, path=copy.path), name=path)

        def write_rows(timeline: Path) -> None:
            check_timeline_targets([timeline], force=options.force)
            write_timeline(timeline, result.timeline)

        writers: dict[str, Callable[[], None]] = {}
        if options.table:
            writers[f"results: {options.table}"] = lambda: add_row(result)
        if timeline and (asked or not result.is_picture):  # a single moment makes no timeline
            writers[f"timeline: {timeline}"] = lambda: write_rows(timeline)
        if options.annotate:
            annotated = options.annotate
            writers[f"annotated clip: {annotated}"] = lambda: _annotate(
                copy.path, result, annotated, scanner, screen, force=options.force
            )
        if options.frames_dir:
            frames_dir = options.frames_dir
            writers[f"frames: in {frames_dir}"] = lambda: _save_frames(copy.path, result, frames_dir, scanner)
        if page:
            writers[f"report: {page}"] = lambda: write_page(page)
        errors = []
        for note, write in writers.items():
            try:
                write()
            except TorchfakesError as error:
                errors.append(error)
            else:
                screen.note(note)
    for each in errors[:-1]:
        show_error(str(each))
    if errors:
        raise errors[-1]
    return Counter([result.verdict or result.status])


def _refuse_one_file_twice(path: str, options: _Options, timeline: Path | None) -> None:
    """Refuse two outputs, or the video and an output, that are the same file."""
    files = {"the video": path, "the table": options.table, "the timeline": timeline}
    files |= {"the annotated clip": options.annotate, "the report": options.report}
    taken: dict[str, str] = {}
    for name, file in files.items():
        if file and not Path(file).is_dir() and (other := taken.setdefault(os.path.realpath(file), name)) != name:
            raise UsageError(f"{other} and {name} can't be one file", path=file, advice="Choose another path.")


def _save_frames(
    video: str, result: VideoResult, folder: str, scanner: Scanner, given: Sequence[str] | None = None
) -> None:
    from torchfakes_cli.scan.explain import save_frames
    from torchfakes_cli.scan.output_paths import mirrored_paths

    base = mirrored_paths([result.path], given or [result.path], folder, "")[result.path]
    with scanner.lent_decoder() as decoder:
        save_frames(base, replace(result, path=video), decoder)


def _annotate(video: str, result: VideoResult, out: str, scanner: Scanner, screen: Screen, *, force: bool) -> None:
    from torchfakes_cli.scan.annotate import annotate_video

    with screen.progress(Path(out).name) as advance:
        notes = annotate_video(
            video, result, out, policy=scanner.policy, config=scanner.config, force=force, progress=advance
        )
    for note in notes:
        screen.warning(f"{out}: {note}")


def _scan_many(
    paths: list[str], scanner: Scanner, backend: BackendOptions, screen: Screen, options: _Options
) -> Counter[str]:
    from torchfakes_cli.scan.batch import Batch

    started = time.monotonic()
    found = _find(paths, screen, options)
    with screen.progress("starting workers"):
        pool = backend.pool(scanner.config, options.model)
    with closing(pool) if pool else nullcontext():
        batch = Batch(
            scanner,
            found,
            paths,
            model=options.model,
            executor=pool,
            table=options.table,
            timelines=options.timelines,
            report=options.report,
            command=command_line(),
            force=options.force,
            prune=options.prune,
        )
        with screen.progress("loading the detector"):
            batch.load()
        try:
            with batch:
                if batch.earlier:
                    _report_earlier(batch.earlier, screen)
                    _report_pruned(batch.earlier.pruned, options, screen)
                _print_results(batch, pool.place if pool else "", screen, options, scanner, paths)
        except KeyboardInterrupt:
            if options.table:
                screen.note("to go on from here, run the same command again")
            raise
    _summarize(batch, found, time.monotonic() - started, options, screen)
    return batch.tally


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
        screen.note(f"{len(found.duplicates)} more names of the same files left out: {path} is {taken}")
    return found


def _report_earlier(table: BatchTable, screen: Screen) -> None:
    """Print how many rows of earlier runs are kept, and how many files are scanned again."""
    changed = "with another version of the file, the model, the device or the settings"
    for count, fate in (
        (len(table.kept), "of an earlier run kept"),
        (table.retried, "with an error: scanned again"),
        (table.stale, f"{changed}: scanned again"),
        (table.others, "of other files stay"),
    ):
        if count:
            screen.note(f"{_rows(count)} {fate}")


def _report_pruned(pruned: int, options: _Options, screen: Screen) -> None:
    """Print how many rows were removed, also with --quiet."""
    if options.prune:
        screen.trouble(f"{_rows(pruned)} of files that are gone removed from {options.table}")


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _print_results(
    batch: Batch, place: str, screen: Screen, options: _Options, scanner: Scanner, given: Sequence[str]
) -> None:
    """Scan and print each result; errors go to stderr, in the same columns."""
    from torchfakes_cli.cli.console import verdict_line

    progress = screen.batch(len(batch.pending))
    width = max(map(len, batch.pending), default=0)
    with closing(batch.results(progress.advance)) as results:
        for path in batch.pending:
            with progress.waiting(place or path):
                result = next(results)
            line = verdict_line(result, width)
            _print(result, screen, options, partial(screen.result, line), one_line=True)
            if result.status is Status.ERROR:
                screen.trouble(line)
            _warn(result, screen)
            if options.frames_dir and result.status is Status.OK:
                _save_frames(result.path, result, options.frames_dir, scanner, given)
        next(results, None)  # raises an error of writing the last result


def _print(
    result: VideoResult,
    screen: Screen,
    options: _Options,
    text: Callable[[], None] | None,
    *,
    one_line: bool,
) -> None:
    """Print a result in the format of the options; ``text`` prints the one for people, who read errors on stderr."""
    if options.format == "json":
        from torchfakes_cli.report import result_to_json

        screen.line(result_to_json(result, one_line=one_line))
    elif options.format == "tsv":
        from torchfakes_cli.cli.console import safe

        p_fake = "" if result.p_fake is None else f"{result.p_fake:.4f}"
        screen.line("\t".join([safe(result.path), result.verdict or result.status, p_fake]))
    elif text and not options.quiet and result.status is Status.OK:
        text()


def _warn(result: VideoResult, screen: Screen) -> None:
    for warning in result.warnings:
        screen.warning(f"{result.path}: {warning}")


def _summarize(batch: Batch, found: Finds, elapsed_s: float, options: _Options, screen: Screen) -> None:
    from torchfakes_cli.cli.console import duration

    tally, kept = batch.tally, len(batch.kept)
    kinds = [*(verdict.value for verdict in Verdict), Status.ERROR.value]
    parts = [", ".join(f"{tally[kind]} {kind}" for kind in kinds if tally[kind])]
    parts += [f"{kept} of them kept from an earlier run"] if kept else []
    parts += [f"{found.skipped} other files skipped"] if found.skipped else []
    parts += [f"{found.hidden} hidden files and folders skipped"] if found.hidden else []
    files = "1 file" if tally.total() == 1 else f"{tally.total()} files"
    screen.note(f"{files} in {duration(elapsed_s)}: {'; '.join(parts)}")
    if options.table:
        screen.note(f"results: {options.table}")
    if options.report:
        screen.note(f"reports: {Path(options.report) / 'index.html'}")
    if options.timelines:
        screen.note(f"timelines: in {options.timelines}")
    if options.frames_dir:
        screen.note(f"frames: in {options.frames_dir}")
    screen.note("A low score is no proof of authenticity.")
