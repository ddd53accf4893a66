"""``torchfakes scan``: verdicts on the terminal, timelines and reports in files."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.backend_options import (
    BackendOptions,
    CopyLimitOption,
    DevicesOption,
    RayOption,
    WorkersOption,
    are_urls,
    is_single,
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
    command_line,
    paths_from,
    scan_config,
)
from torchfakes_cli.errors import MediaError, TorchfakesError, UnreadableFileError, UsageError
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.scan.config import ScanConfig

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.report import BatchTable
    from torchfakes_cli.scan.batch import Batch
    from torchfakes_cli.scan.discovery import Finds
    from torchfakes_cli.scan.scanner import Scanner

_FILES = "Which files"
_LIMITS = LIMITS_PANEL
_OUTPUT = OUTPUT_PANEL

#: Largest width of the column of paths in the lines of a batch.
_MOST_PATH_WIDTH = 48

#: Time of import, soon after the start of the program.
_STARTED = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Output:
    """Output options."""

    json: bool
    quiet: bool
    path: str | None
    timelines: str | None
    report: str | None
    force: bool
    profile: bool
    annotate: str | None = None
    remote: bool = False
    frames_dir: str | None = None


@dataclass(frozen=True, slots=True)
class _Search:
    """Options that select videos in folders."""

    recursive: bool
    include: list[str]
    exclude: list[str]


def scan_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Scan videos or pictures, or folders of them; s3://, gs:// and other URLs of stores that "
            "fsspec reads; - reads a list of paths, one a line or separated by NUL.",
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
            help="Scan only the videos of a folder whose names match ('a*.mp4', 'day1/*'); '*.jpg' takes "
            "pictures. Repeatable.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            rich_help_panel=_FILES,
            help="Leave out videos and folders whose names match. Repeatable.",
            show_default=False,
        ),
    ] = None,
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
            rich_help_panel=_LIMITS,
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
            rich_help_panel=_OUTPUT,
            help="Write this file: for one video its timeline, as CSV; for several or a folder a row a file, as CSV or "
            "what the ending says: .jsonl, .sqlite (.db) or .parquet. Run again, the same command goes on: rows whose "
            "file, model and settings are unchanged are kept, and not printed again.",
            show_default="a timeline beside each video",
        ),
    ] = None,
    timelines: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=_OUTPUT,
            help="Write the timelines into this folder, in subfolders like those of the videos.",
            show_default=False,
        ),
    ] = None,
    annotate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_OUTPUT,
            help="Write the clip, an MP4 or MOV with its sound, with a box and the scores of each face drawn over it. "
            "For one video.",
            show_default=False,
        ),
    ] = None,
    frames_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=_OUTPUT,
            help="Save the most telling whole frames of each person in this folder as JPEG, as for a reverse image "
            "search.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=_OUTPUT,
            help="Write a report to open in a browser: a page for one video; for several a folder, with an index and a "
            "page each.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            rich_help_panel=_OUTPUT,
            help="Replace existing files of other kinds, and start a batch over.",
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel=_OUTPUT,
            help="Print JSON, timeline included: a document for one video, a line a file for several. "
            "No CSV is written then, unless -o or --timelines asks for it.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            rich_help_panel=_OUTPUT,
            help="Print one line a file, tab-separated: path, verdict, p_fake (empty if there is none). "
            "No warnings, no progress.",
        ),
    ] = False,
    fail_on_fake: Annotated[
        bool,
        typer.Option(
            "--fail-on-fake", rich_help_panel=_OUTPUT, help="Exit with code 4 when any verdict is fake, for scripts."
        ),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", rich_help_panel=_OUTPUT, help="Show the time spent in each stage.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Scan videos for synthetic faces.

    One video gives its verdict in detail, several give a line each; a CSV timeline of every face lands beside each
    video. A folder is searched for videos, folders in it included. A low score is no proof of authenticity.
    """
    with guarded(debug=debug):
        listed = "-" in paths
        if listed:
            paths = [each for path in paths for each in (paths_from(sys.stdin.buffer) if path == "-" else [path])]
        remote = are_urls(
            paths,
            local_outputs={
                "--timelines": timelines,
                "--report": report,
                "--annotate": annotate,
                "--frames-dir": frames_dir,
            },
        )
        single = not listed and is_single(paths)
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
        results = _Output(json, quiet, output, timelines, report, force, profile, annotate, remote, frames_dir)
        search = _Search(recursive, include or [], exclude or [])
        if annotate and not single:
            raise UsageError("--annotate draws over one video: give the path of a single file")
        code = _scan(paths, None if single else search, config, model, results, backend, fail_on_fake=fail_on_fake)
    raise typer.Exit(code)


def _scan(
    paths: list[str],
    search: _Search | None,
    config: ScanConfig,
    model: str | None,
    output: _Output,
    backend: BackendOptions,
    *,
    fail_on_fake: bool,
) -> ExitCode:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.scan.scanner import Scanner

    screen = Screen(quiet=output.quiet)
    with screen.progress("starting"):
        scanner = Scanner(config, model=model)
    with scanner:
        if search is None:
            tally = _scan_one(paths[0], scanner, model, screen, output)
        else:
            tally = _scan_many(paths, search, scanner, model, backend, screen, output)
    if output.profile:
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


def _scan_one(path: str, scanner: Scanner, model: str | None, screen: Screen, output: _Output) -> Counter[str]:
    from torchfakes_cli.report import check_is_csv, check_timeline_targets, write_timeline
    from torchfakes_cli.scan.output_paths import mirrored_paths, report_path, timeline_paths
    from torchfakes_cli.scan.pages import Pages, check_pages
    from torchfakes_cli.scan.remote_files import is_url
    from torchfakes_cli.scan.scheduler import failed

    if output.path and output.timelines:
        raise UsageError("the timeline of one video goes to one place: give either -o or --timelines")
    timeline = None
    if output.path:
        check_is_csv(output.path)
        timeline = Path(output.path)
    elif output.timelines:
        timeline = mirrored_paths([path], [path], output.timelines)[path]
    elif not output.json and not is_url(path):
        timeline = timeline_paths([path])[path]
    page = report_path(output.report, path, timeline) if output.report else None
    exists = os.path.lexists(path) or is_url(path)
    if timeline and exists:
        check_timeline_targets([timeline], force=output.force, make_folders=bool(output.timelines))
    if output.annotate:
        from torchfakes_cli.scan.annotate import check_clip_target

        if timeline and os.path.realpath(output.annotate) == os.path.realpath(timeline):
            raise UsageError("the timeline and the annotated clip can't be one file", path=output.annotate)
        check_clip_target(output.annotate, path, force=output.force)
    if page and exists:
        check_pages([page], force=output.force)
    try:
        with screen.progress(Path(path).name) as advance:
            result = scanner.scan(path, advance)
    except MediaError as error:
        _print_for_programs(failed(path, error), screen, output, one_line=False)
        raise
    if result.is_picture and not (output.path or output.timelines):
        timeline = None  # a single moment makes no timeline
    # Before anything is written: a full disk must not cost the verdict.
    if not _print_for_programs(result, screen, output, one_line=False):
        from torchfakes_cli.cli.console import show_verdict

        show_verdict(result, screen)
    _warn(result, screen)

    def write_page(path: Path) -> None:
        with screen.progress("report"):
            Pages(scanner, model, command_line()).write(path, result)

    writers: dict[str, Callable[[], None]] = {}
    if timeline:
        writers[f"timeline: {timeline}"] = lambda: write_timeline(timeline, result.timeline)
    if output.annotate:
        annotated = output.annotate
        writers[f"annotated clip: {annotated}"] = lambda: _annotate(
            result, annotated, scanner, screen, force=output.force
        )
    if output.frames_dir:
        frames_dir = output.frames_dir
        writers[f"frames: in {frames_dir}"] = lambda: _save_frames(result, frames_dir, scanner)
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
    return Counter([_outcome(result)])


def _save_frames(result: VideoResult, folder: str, scanner: Scanner, given: list[str] | None = None) -> None:
    from torchfakes_cli.scan.explain import save_frames
    from torchfakes_cli.scan.output_paths import mirrored_paths

    base = mirrored_paths([result.path], given or [result.path], folder, "")[result.path]
    with scanner.lent_decoder() as decoder:
        save_frames(base, result, decoder)


def _annotate(result: VideoResult, out: str, scanner: Scanner, screen: Screen, *, force: bool) -> None:
    from torchfakes_cli.scan.annotate import annotate_video

    with screen.progress(Path(out).name) as advance:
        notes = annotate_video(
            result.path, result, out, policy=scanner.policy, config=scanner.config, force=force, progress=advance
        )
    for note in notes:
        screen.warning(f"{out}: {note}")


def _scan_many(
    paths: list[str],
    search: _Search,
    scanner: Scanner,
    model: str | None,
    backend: BackendOptions,
    screen: Screen,
    output: _Output,
) -> Counter[str]:
    from torchfakes_cli.scan.batch import Batch

    started = time.monotonic()
    found = _find(paths, search, screen)
    with screen.progress("starting workers"):
        pool = backend.pool(scanner.config, model)
    with closing(pool) if pool else nullcontext():
        batch = Batch(
            scanner,
            found,
            paths,
            model=model,
            executor=pool,
            table=output.path,
            timelines=output.timelines,
            beside=not output.json and not output.path,
            report=output.report,
            command=command_line(),
            force=output.force,
        )
        with screen.progress("loading the detector"):
            batch.load()
        try:
            with batch:
                if batch.earlier:
                    _report_earlier(batch.earlier, screen)
                _print_results(batch, pool.place if pool else "", screen, output, scanner, paths)
        except KeyboardInterrupt:
            if output.path:
                screen.note("to go on from here, run the same command again")
            raise
    _summarise(batch, found, time.monotonic() - started, output, screen)
    return batch.tally


def _find(paths: list[str], search: _Search, screen: Screen) -> Finds:
    from torchfakes_cli.scan.discovery import find_videos

    with screen.progress("looking for videos"):
        found = find_videos(paths, recursive=search.recursive, include=search.include, exclude=search.exclude)
    if not found.videos and not found.unreadable:
        raise UnreadableFileError(
            "no video found" + (f" among {found.skipped} files" if found.skipped else ""),
            path=", ".join(paths) or "the list",
            advice="Name the file itself if it is a video with an unusual suffix.",
        )
    if found.duplicates:
        path, taken = next(iter(found.duplicates.items()))
        screen.note(f"{len(found.duplicates)} more names of the same files left out: {path} is {taken}")
    return found


def _report_earlier(table: BatchTable, screen: Screen) -> None:
    """Print how many rows of an earlier run are kept and dropped."""
    if table.forgotten:
        screen.warning("nothing is left that tells what the earlier rows depend on: all files are scanned again")
        return
    changed = "with another version of the file, the model, the device or the settings"
    for count, fate in (
        (len(table.kept), "of an earlier run kept"),
        (table.retried, "with an error: scanned again"),
        (table.stale, f"{changed}: scanned again"),
        (table.gone, "of files that are not part of this scan: left out"),
    ):
        if count:
            screen.note(f"{count} row{'s' if count > 1 else ''} {fate}")


def _print_results(
    batch: Batch, place: str, screen: Screen, output: _Output, scanner: Scanner, given: list[str]
) -> None:
    """Scan and print each result; errors go to stderr, in the same columns."""
    from torchfakes_cli.cli.console import safe, verdict_line

    progress = screen.batch(len(batch.pending))
    width = min(max((len(safe(path)) for path in batch.pending), default=0), _MOST_PATH_WIDTH)
    with closing(batch.results(progress.advance)) as results:
        for path in batch.pending:
            with progress.waiting(place or path):
                result = next(results)
            if not _print_for_programs(result, screen, output, one_line=True) and result.status is Status.OK:
                screen.result(verdict_line(result, width))
            if result.status is Status.ERROR:
                screen.trouble(verdict_line(result, width))
            _warn(result, screen)
            if output.frames_dir and result.status is Status.OK:
                _save_frames(result, output.frames_dir, scanner, given)
        next(results, None)  # raises an error of writing the last result


def _print_for_programs(result: VideoResult, screen: Screen, output: _Output, *, one_line: bool) -> bool:
    """Print a result in the format of --json or --quiet; False if neither was given."""
    if output.json:
        from torchfakes_cli.report import result_to_json

        screen.line(result_to_json(result, one_line=one_line))
    elif output.quiet:
        from torchfakes_cli.cli.console import safe

        p_fake = "" if result.p_fake is None else f"{result.p_fake:.4f}"
        screen.line("\t".join([safe(result.path), result.verdict or result.status, p_fake]))
    return output.json or output.quiet


def _warn(result: VideoResult, screen: Screen) -> None:
    for warning in result.warnings:
        screen.warning(f"{result.path}: {warning}")


def _outcome(result: VideoResult) -> str:
    return (result.verdict or result.status).value


def _summarise(batch: Batch, found: Finds, elapsed_s: float, output: _Output, screen: Screen) -> None:
    from torchfakes_cli.cli.console import duration

    tally, kept = batch.tally, len(batch.kept)
    kinds = [*(verdict.value for verdict in Verdict), Status.ERROR.value]
    counts = ", ".join(f"{tally[kind]} {kind}" for kind in kinds if tally[kind])
    files = "1 file" if tally.total() == 1 else f"{tally.total()} files"
    skipped = f"; {found.skipped} other files skipped" if found.skipped else ""
    earlier = f"; {kept} of them kept from an earlier run" if kept else ""
    screen.note(f"{files} in {duration(elapsed_s)}: {counts}{earlier}{skipped}")
    if output.path:
        screen.note(f"results: {output.path}")
    if output.report:
        screen.note(f"reports: {Path(output.report) / 'index.html'}")
    if output.timelines:
        screen.note(f"timelines: in {output.timelines}")
    elif not output.path and not output.json and not output.remote:
        screen.note("timelines: beside the videos, as .timeline.csv")
    screen.note("A low score is no proof of authenticity.")
