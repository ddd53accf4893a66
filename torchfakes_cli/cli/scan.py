"""``torchfakes scan``: verdicts on the terminal, evidence in files."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchfakes_cli.cli.options import parse_rate, parse_time, refuse_urls
from torchfakes_cli.cli.outcome import ExitCode, guarded
from torchfakes_cli.config import FaceConfig, SamplingConfig, ScanConfig, VerdictConfig
from torchfakes_cli.errors import MediaError, UnreadableFileError
from torchfakes_cli.records import Status, Verdict, VideoResult

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.report import BatchCsv
    from torchfakes_cli.scan import Finds, Scanner

_FRAMES = "Which frames"
_JUDGING = "Faces and verdict"
_OUTPUT = "Output"

_DEFAULT_SAMPLING = SamplingConfig()
_DEFAULT_FACES = FaceConfig()


@dataclass(frozen=True, slots=True)
class _Output:
    """What the user wants to get, and where."""

    json: bool
    quiet: bool
    path: str | None
    force: bool


def scan_command(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="A video, or several, or folders of them.", show_default=False),
    ],
    fps: Annotated[
        Fraction | None,
        typer.Option(
            parser=parse_rate,
            metavar="RATE",
            rich_help_panel=_FRAMES,
            help="Look at so many frames a second, such as 2, 0.5 or 30000/1001.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=_FRAMES,
            help="Look at so many frames, spread evenly.",
            show_default=f"{_DEFAULT_SAMPLING.frames}, and one a second in longer clips",
        ),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            rich_help_panel=_FRAMES,
            help="Begin here: seconds, 1:30 or 0:01:30.5.",
            show_default="the beginning",
        ),
    ] = None,
    end: Annotated[
        float | None,
        typer.Option(
            parser=parse_time, metavar="TIME", rich_help_panel=_FRAMES, help="Stop here.", show_default="the end"
        ),
    ] = None,
    min_face: Annotated[
        int, typer.Option(metavar="PIXELS", rich_help_panel=_JUDGING, help="Ignore faces smaller than this.")
    ] = _DEFAULT_FACES.min_face,
    blur_threshold: Annotated[
        float,
        typer.Option(
            metavar="X",
            rich_help_panel=_JUDGING,
            help="Give no score to faces less sharp than this (variance of the Laplacian).",
        ),
    ] = _DEFAULT_FACES.blur_threshold,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            rich_help_panel=_JUDGING,
            help="Call a video fake from this p_fake on and real below, with nothing between.",
            show_default="the model's two thresholds",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_JUDGING,
            help="Detector to use, a .safetensors checkpoint.",
            show_default="the one that ships",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=_JUDGING, help="auto, cpu, cuda or cuda:N.")
    ] = ScanConfig().device,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=_OUTPUT,
            help="CSV to write: the timeline of one video; one row a file for several or for a folder.",
            show_default="a timeline beside each video",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=_OUTPUT, help="Replace an existing file in the way of a CSV.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel=_OUTPUT,
            help="Print JSON, timeline included: a document for one video, a line a file for several. "
            "No CSV is written then, unless -o asks for it.",
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
    debug: Annotated[
        bool, typer.Option("--debug", rich_help_panel=_OUTPUT, help="Show the log, and tracebacks of errors.")
    ] = False,
) -> None:
    """Say of videos whether a face in them is synthetic, and how sure that is.

    One video gives its verdict in detail, several give a line each; a CSV timeline of every face lands beside each
    video. A folder is searched for videos, folders in it included. A low score is no proof of authenticity.
    """
    with guarded(debug=debug):
        refuse_urls(paths)
        config = ScanConfig(
            sampling=SamplingConfig(
                fps=fps,
                frames=_DEFAULT_SAMPLING.frames if frames is None else frames,
                frames_fixed=frames is not None,
                start_s=_DEFAULT_SAMPLING.start_s if start is None else start,
                end_s=end,
            ),
            faces=FaceConfig(min_face=min_face, blur_threshold=blur_threshold),
            verdict=VerdictConfig(fake_above=threshold, real_below=threshold),
            device=device,
        )
        code = _scan(paths, config, model, _Output(json, quiet, output, force), fail_on_fake=fail_on_fake)
    raise typer.Exit(code)


def _scan(paths: list[str], config: ScanConfig, model: str | None, output: _Output, *, fail_on_fake: bool) -> ExitCode:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.scan import Scanner

    screen = Screen(quiet=output.quiet)
    with screen.progress("starting"):
        scanner = Scanner(config, model=model)
    single = len(paths) == 1 and not Path(paths[0]).is_dir()
    tally = _scan_one(paths[0], scanner, screen, output) if single else _scan_many(paths, scanner, screen, output)
    if fail_on_fake and tally[Verdict.FAKE]:
        return ExitCode.FAKE_FOUND
    return ExitCode.SOME_FAILED if tally[Status.ERROR] else ExitCode.DONE


def _scan_one(path: str, scanner: Scanner, screen: Screen, output: _Output) -> Counter[str]:
    from torchfakes_cli.report import check_timeline_targets, write_timeline
    from torchfakes_cli.scan import failed, timeline_places

    place = Path(output.path) if output.path else None if output.json else timeline_places([path])[path]
    if place and os.path.lexists(path):
        check_timeline_targets([place], force=output.force)
    try:
        with screen.progress(Path(path).name) as advance:
            result = scanner.scan(path, advance)
    except MediaError as error:
        _print_for_programs(failed(path, error), screen, output, one_line=False)
        raise
    if place:
        write_timeline(place, result.timeline)
    if not _print_for_programs(result, screen, output, one_line=False):
        from torchfakes_cli.cli.console import verdict_panel

        screen.result(verdict_panel(result, scanner.policy, unicode=screen.unicode))
    _warn(result, screen)
    if place:
        screen.note(f"timeline: {place}")
    return Counter(_outcome(result))


def _scan_many(paths: list[str], scanner: Scanner, screen: Screen, output: _Output) -> Counter[str]:
    from torchfakes_cli.report import BatchCsv, check_timeline_targets
    from torchfakes_cli.scan import timeline_places, unreadable_folder

    started = time.monotonic()
    found = _find(paths, screen)
    table = BatchCsv(output.path, force=output.force) if output.path else None
    places = {} if table or output.json else timeline_places(found.videos)
    if table:
        table.check()
    check_timeline_targets((places[video] for video in places if os.path.lexists(video)), force=output.force)
    with screen.progress("loading the detector"):
        scanner.load()
    tally: Counter[str] = Counter()
    with table or nullcontext():
        for result in chain(
            (unreadable_folder(folder, reason) for folder, reason in found.unreadable),
            _scan_each(found.videos, scanner, screen),
        ):
            _keep(result, table, places)
            _show_line(result, screen, output)
            tally.update(_outcome(result))
    _summarise(tally, found, time.monotonic() - started, output, screen)
    return tally


def _find(paths: list[str], screen: Screen) -> Finds:
    from torchfakes_cli.scan import find_videos

    with screen.progress("looking for videos"):
        found = find_videos(paths)
    if not found.videos and not found.unreadable:
        raise UnreadableFileError(
            "no video found" + (f" among {found.skipped} files" if found.skipped else ""),
            path=", ".join(paths),
            advice="Name the file itself if it is a video with an unusual suffix.",
        )
    return found


def _scan_each(videos: tuple[str, ...], scanner: Scanner, screen: Screen) -> Iterator[VideoResult]:
    from torchfakes_cli.scan import scan_file

    for number, video in enumerate(videos, 1):
        with screen.progress(f"{number} of {len(videos)}  {video}") as advance:
            result = scan_file(scanner, video, advance)
        yield result


def _keep(result: VideoResult, table: BatchCsv | None, places: Mapping[str, Path]) -> None:
    """Writes what is to last of a result: its row, or its timeline."""
    from torchfakes_cli.report import write_timeline

    if table:
        table.write(result)
    elif result.status is Status.OK and result.path in places:
        write_timeline(places[result.path], result.timeline)


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


def _summarise(tally: Counter[str], found: Finds, elapsed_s: float, output: _Output, screen: Screen) -> None:
    from torchfakes_cli.cli.console import duration

    kinds = [*(verdict.value for verdict in Verdict), Status.ERROR.value]
    counts = ", ".join(f"{tally[kind]} {kind}" for kind in kinds if tally[kind])
    files = "1 file" if tally.total() == 1 else f"{tally.total()} files"
    skipped = f"; {found.skipped} other files skipped" if found.skipped else ""
    screen.note(f"{files} in {duration(elapsed_s)}: {counts}{skipped}")
    if output.path:
        screen.note(f"results: {output.path}")
    elif not output.json:
        screen.note("timelines: beside the videos, as .timeline.csv")
    screen.note("A low score is no proof of authenticity.")
