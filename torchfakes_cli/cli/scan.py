"""``torchfakes scan``: verdicts on the terminal, evidence in files."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    paths_from,
    scan_config,
)
from torchfakes_cli.cli.outcome import ExitCode, guarded
from torchfakes_cli.cli.spreading import (
    CopyLimitOption,
    DevicesOption,
    RayOption,
    Spreading,
    WorkersOption,
    are_urls,
    is_single,
)
from torchfakes_cli.config import ScanConfig
from torchfakes_cli.errors import MediaError, UnreadableFileError, UsageError
from torchfakes_cli.records import Status, Verdict, VideoResult

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.report import BatchTable
    from torchfakes_cli.scan import Finds, Scanner
    from torchfakes_cli.scan.spread.executor import Executor

_FILES = "Which files"
_LIMITS = LIMITS_PANEL
_OUTPUT = OUTPUT_PANEL

#: When the command was read in, which is soon after the start of the program.
_STARTED = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Output:
    """What the user wants to get, and where."""

    json: bool
    quiet: bool
    path: str | None
    timelines: str | None
    report: str | None
    force: bool
    profile: bool
    annotate: str | None = None
    remote: bool = False


@dataclass(frozen=True, slots=True)
class _Search:
    """Which videos of a folder the user wants."""

    recursive: bool
    include: list[str]
    exclude: list[str]


def scan_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="A video or a picture, or several, or folders of them; s3://, gs:// and other URLs of stores that "
            "fsspec reads; - reads a list of paths, one a line or separated by NUL.",
            show_default=False,
        ),
    ],
    recursive: Annotated[
        bool,
        typer.Option("--recursive/--no-recursive", rich_help_panel=_FILES, help="Look into folders in a folder."),
    ] = True,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            rich_help_panel=_FILES,
            help="Of the videos in a folder, take only those named like this ('a*.mp4', 'day1/*'); '*.jpg' takes "
            "pictures. Repeatable.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            rich_help_panel=_FILES,
            help="Leave out videos and folders named like this. Repeatable.",
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
            help="Decode so many videos of a folder at once, in each process that scans.",
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
            help="File to write: for one video its timeline, as CSV; for several or a folder a row a file, as CSV or "
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
            help="Write the timelines here, in folders like those of the videos.",
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
            help="Replace an existing file in the way of results, a report or a clip, and start a batch over.",
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
        bool, typer.Option("--profile", rich_help_panel=_OUTPUT, help="Say at the end where the time went.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Say of videos whether a face in them is synthetic, and how sure that is.

    One video gives its verdict in detail, several give a line each; a CSV timeline of every face lands beside each
    video. A folder is searched for videos, folders in it included. A low score is no proof of authenticity.
    """
    with guarded(debug=debug):
        listed = "-" in paths
        if listed:
            paths = [each for path in paths for each in (paths_from(sys.stdin.buffer) if path == "-" else [path])]
        remote = are_urls(paths, local_outputs={"--timelines": timelines, "--report": report, "--annotate": annotate})
        single = not listed and is_single(paths)
        spreading = Spreading(device, ray, workers)
        spreading.check(single=single, report=report is not None, profile=profile)
        config = scan_config(
            fps=fps,
            frames=frames,
            start=start,
            end=end,
            key_frames=key_frames,
            min_face=min_face,
            blur_threshold=blur_threshold,
            threshold=threshold,
            device=spreading.device_here,
            jobs=jobs,
            timeout=timeout,
            memory_limit=memory_limit,
            hwaccel=hwaccel,
            copy_limit=copy_limit,
        )
        results = _Output(json, quiet, output, timelines, report, force, profile, annotate, remote)
        search = _Search(recursive, include or [], exclude or [])
        if annotate and not single:
            raise UsageError("--annotate draws over one video: give the path of a single file")
        code = _scan(paths, None if single else search, config, model, results, spreading, fail_on_fake=fail_on_fake)
    raise typer.Exit(code)


def _scan(
    paths: list[str],
    search: _Search | None,
    config: ScanConfig,
    model: str | None,
    output: _Output,
    spreading: Spreading,
    *,
    fail_on_fake: bool,
) -> ExitCode:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.scan import Scanner
    from torchfakes_cli.scan.spread.executor import Here

    screen = Screen(quiet=output.quiet)
    with screen.progress("starting"):
        scanner = Scanner(config, model=model)
    with scanner:
        if search is None:
            tally = _scan_one(paths[0], scanner, model, screen, output)
        else:
            with screen.progress("starting workers"):
                executor = spreading.executor(config, model) or Here(scanner)
            with closing(executor):
                tally = _scan_many(paths, search, executor, scanner, model, screen, output)
    if output.profile:
        from torchfakes_cli.cli.console import profile_table

        screen.aside(profile_table(scanner.profile, time.monotonic() - _STARTED, _time_of_ended_processes()))
    if fail_on_fake and tally[Verdict.FAKE]:
        return ExitCode.FAKE_FOUND
    return ExitCode.SOME_FAILED if tally[Status.ERROR] else ExitCode.DONE


def _time_of_ended_processes() -> float | None:
    """Processor time of the processes that this one started and that have ended; None where the system doesn't tell."""
    if sys.platform == "win32":
        return None
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _scan_one(path: str, scanner: Scanner, model: str | None, screen: Screen, output: _Output) -> Counter[str]:
    from torchfakes_cli.cli.reports import check_pages, command_line, page_of_one
    from torchfakes_cli.report import check_clip_target, check_is_csv, check_timeline_targets, write_timeline
    from torchfakes_cli.scan import Pages, failed
    from torchfakes_cli.scan.remote import is_url

    if output.path and output.timelines:
        raise UsageError("the timeline of one video goes to one place: give either -o or --timelines")
    if output.path:
        check_is_csv(output.path)
    place = Path(output.path) if output.path else _places([path], [path], output).get(path)
    page = page_of_one(output.report, path, place)
    there = os.path.lexists(path) or is_url(path)
    if place and there:
        check_timeline_targets([place], force=output.force, make_folders=bool(output.timelines))
    if output.annotate:
        if place and os.path.realpath(output.annotate) == os.path.realpath(place):
            raise UsageError("the timeline and the annotated clip can't be one file", path=output.annotate)
        check_clip_target(output.annotate, path, force=output.force)
    if page and there:
        check_pages([page], force=output.force)
    try:
        with screen.progress(Path(path).name) as advance:
            result = scanner.scan(path, advance)
    except MediaError as error:
        _print_for_programs(failed(path, error), screen, output, one_line=False)
        raise
    if result.is_picture and not (output.path or output.timelines):
        place = None  # one moment makes no timeline
    if place:
        write_timeline(place, result.timeline)
    if page:
        with screen.progress("report"), Pages(scanner, model, command_line()) as pages:
            pages.write(page, result)
    if not _print_for_programs(result, screen, output, one_line=False):
        from torchfakes_cli.cli.console import verdict_panel

        screen.result(verdict_panel(result, scanner.policy, unicode=screen.unicode))
    _warn(result, screen)
    if place:
        screen.note(f"timeline: {place}")
    if output.annotate:
        _annotate(result, output.annotate, scanner, screen, force=output.force)
    if page:
        screen.note(f"report: {page}")
    return Counter(_outcome(result))


def _annotate(result: VideoResult, out: str, scanner: Scanner, screen: Screen, *, force: bool) -> None:
    from torchfakes_cli.scan import annotate_video

    with screen.progress(Path(out).name) as advance:
        notes = annotate_video(
            result.path, result, out, policy=scanner.policy, config=scanner.config, force=force, progress=advance
        )
    for note in notes:
        screen.warning(f"{out}: {note}")
    screen.note(f"annotated clip: {out}")


def _scan_many(
    paths: list[str],
    search: _Search,
    executor: Executor,
    scanner: Scanner,
    model: str | None,
    screen: Screen,
    output: _Output,
) -> Counter[str]:
    from torchfakes_cli.cli.reports import Folder, check_pages, command_line, pages_of_many
    from torchfakes_cli.report import BatchTable, check_batch_target, check_timeline_targets
    from torchfakes_cli.scan import Pages, settings_digest, stamp_of, unreadable_folder

    started = time.monotonic()
    found = _find(paths, search, screen)
    unreadable = dict(found.unreadable)
    candidates = [*unreadable, *found.videos]
    places = {} if output.path and not output.timelines else _places(found.videos, paths, output)
    page_places = pages_of_many(output.report, found.videos, paths)
    folder = Folder(output.report, page_places)
    if output.path:
        check_batch_target(output.path, candidates, force=output.force)
    check_timeline_targets(
        (places[video] for video in places if os.path.lexists(video)),
        force=output.force,
        make_folders=bool(output.timelines),
    )
    check_pages(folder.targets, force=output.force)
    with screen.progress("loading the detector"):
        settings = settings_digest(scanner.config, model)
        executor.load()
    table = None
    if output.path:
        stamps = {
            path: stamp_of(
                path, settings, places.get(path, ""), page_places.get(path, ""), state=found.states.get(path)
            )
            for path in candidates
        }
        table = BatchTable(output.path, stamps, force=output.force)
    tally: Counter[str] = Counter()
    try:
        with (
            table or nullcontext(),
            Pages(scanner, model, command_line()) if output.report else nullcontext() as pages,
        ):
            kept = table.kept if table else {}
            tally.update(row.verdict for row in kept.values() if row.verdict)
            if table:
                _tell_of_earlier(table, screen)
            folder.keep(kept)
            try:
                for result in chain(
                    (unreadable_folder(path, reason) for path, reason in unreadable.items()),
                    _scan_rest([video for video in found.videos if video not in kept], executor, screen),
                ):
                    folder.add(result, pages)
                    _keep(result, table, places)
                    _show_line(result, screen, output)
                    tally.update(_outcome(result))
            finally:
                folder.finish(candidates, pages)
    except KeyboardInterrupt:
        if table:
            screen.note("to go on from here, run the same command again")
        raise
    _summarise(tally, len(kept), found, time.monotonic() - started, output, screen)
    return tally


def _find(paths: list[str], search: _Search, screen: Screen) -> Finds:
    from torchfakes_cli.scan import find_videos

    with screen.progress("looking for videos"):
        found = find_videos(paths, recursive=search.recursive, include=search.include, exclude=search.exclude)
    if not found.videos and not found.unreadable:
        raise UnreadableFileError(
            "no video found" + (f" among {found.skipped} files" if found.skipped else ""),
            path=", ".join(paths) or "the list",
            advice="Name the file itself if it is a video with an unusual suffix.",
        )
    return found


def _places(videos: Iterable[str], paths: list[str], output: _Output) -> dict[str, Path]:
    """Where the timelines go; none where nobody wants them."""
    from torchfakes_cli.scan import mirrored_places, timeline_places
    from torchfakes_cli.scan.remote import is_url

    if output.timelines:
        return mirrored_places(videos, paths, output.timelines)
    return {} if output.json else timeline_places(video for video in videos if not is_url(video))


def _tell_of_earlier(table: BatchTable, screen: Screen) -> None:
    """Says what becomes of the rows of an earlier run."""
    if table.forgotten:
        screen.warning("nothing is left that tells what the earlier rows depend on: all files are scanned again")
        return
    changed = "with another version of the file, the model or the settings"
    for count, fate in (
        (len(table.kept), "of an earlier run kept"),
        (table.retried, "with an error: scanned again"),
        (table.stale, f"{changed}: scanned again"),
        (table.gone, "of files that are not part of this scan: left out"),
    ):
        if count:
            screen.note(f"{count} row{'s' if count > 1 else ''} {fate}")


def _scan_rest(videos: list[str], executor: Executor, screen: Screen) -> Iterator[VideoResult]:
    progress = screen.batch(len(videos))
    with closing(executor.scan(videos, progress.advance)) as results:
        for video in videos:
            with progress.waiting(video if executor.in_order else executor.place):
                result = next(results)
            yield result


def _keep(result: VideoResult, table: BatchTable | None, places: Mapping[str, Path]) -> None:
    """Writes what is to last of a result: its timeline, then its row, which vouches for the timeline."""
    from torchfakes_cli.report import write_timeline

    if result.status is Status.OK and not result.is_picture and result.path in places:
        write_timeline(places[result.path], result.timeline)
    if table:
        table.write(result)


def _show_line(result: VideoResult, screen: Screen, output: _Output) -> None:
    """One file of many on the screen; what went wrong goes to stderr, in the same columns."""
    from torchfakes_cli.cli.console import verdict_line

    if not _print_for_programs(result, screen, output, one_line=True) and result.status is Status.OK:
        screen.result(verdict_line(result))
    if result.status is Status.ERROR:
        screen.trouble(verdict_line(result))
    _warn(result, screen)


def _print_for_programs(result: VideoResult, screen: Screen, output: _Output, *, one_line: bool) -> bool:
    """Prints a result as --json or --quiet want it; False where neither was asked for."""
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


def _outcome(result: VideoResult) -> list[str]:
    """What a result counts as."""
    return [result.verdict.value if result.verdict else result.status.value]


def _summarise(tally: Counter[str], kept: int, found: Finds, elapsed_s: float, output: _Output, screen: Screen) -> None:
    from torchfakes_cli.cli.console import duration

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
