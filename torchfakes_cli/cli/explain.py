"""``torchfakes explain``: heat maps of representative faces, and a table of facial regions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import (
    DEFAULT_FACES,
    DEFAULT_SAMPLING,
    DEFAULT_SCAN,
    OUTPUT_PANEL,
    BlurThresholdOption,
    DebugOption,
    DeviceOption,
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
    refuse_urls,
    scan_config,
)
from torchfakes_cli.errors import UsageError
from torchfakes_cli.scan.config import FACES_A_TRACK, MOST_TRACKS, ScanConfig

#: The page in the folder of an explanation.
PAGE = "report.html"


def explain_command(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Explain the verdict on this video or picture.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            rich_help_panel=OUTPUT_PANEL,
            help="Write the pictures and the table into this folder.",
            show_default="clip.explain in the current folder",
        ),
    ] = None,
    faces: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=OUTPUT_PANEL, help="Show at most this many faces of a person.")
    ] = FACES_A_TRACK,
    people: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=OUTPUT_PANEL, help="Show at most this many people.")
    ] = MOST_TRACKS,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=OUTPUT_PANEL, help="Write into a folder that holds other files.")
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
    device: DeviceOption = DEFAULT_SCAN.device,
    timeout: TimeoutOption = DEFAULT_SCAN.timeout_s,
    hwaccel: HwaccelOption = DEFAULT_SCAN.hwaccel,
    memory_limit: MemoryLimitOption = DEFAULT_SCAN.memory_mb,
    debug: DebugOption = False,
) -> None:
    """Explain a verdict: show representative faces with heat maps of the detector.

    The video is scanned. For the faces of each person that score highest, lowest and near the person's own score, a
    picture shows the face and, by Grad-CAM, the regions that speak for "fake" and for "real"; a table gives the shares
    of eyes, nose, mouth, chin, cheeks, forehead and the surroundings; a page holds all of it. Heat maps show where the
    detector finds evidence, not why.
    """
    with guarded(debug=debug):
        refuse_urls([path])
        if min(faces, people) < 1:
            raise UsageError("at least one face of one person must be shown")
        config = scan_config(
            fps=fps,
            frames=frames,
            start=start,
            end=end,
            key_frames=key_frames,
            min_face=min_face,
            blur_threshold=blur_threshold,
            threshold=threshold,
            device=device,
            timeout=timeout,
            memory_limit=memory_limit,
            hwaccel=hwaccel,
        )
        _explain(path, config, model, output, faces, people, force=force)


def _explain(
    path: str, config: ScanConfig, model: str | None, output: str | None, faces: int, people: int, *, force: bool
) -> None:
    from torchfakes_cli.cli.console import Screen, show_verdict
    from torchfakes_cli.cli.console.explain_view import regions_table
    from torchfakes_cli.report import check_explanation_target, write_explanation
    from torchfakes_cli.scan.explain import explain_video
    from torchfakes_cli.scan.output_paths import explanation_folder
    from torchfakes_cli.scan.pages import Pages
    from torchfakes_cli.scan.scanner import Scanner

    screen = Screen()
    folder = Path(output) if output else explanation_folder(path)
    if os.path.lexists(path):
        check_explanation_target(folder, force=force)
    with screen.progress("starting"):
        scanner = Scanner(config, model=model)
    with scanner:
        with screen.progress(Path(path).name) as advance:
            explanation = explain_video(
                path, faces_a_track=faces, most_tracks=people, progress=advance, scanner=scanner
            )
        show_verdict(explanation.result, screen)
        for warning in explanation.result.warnings:
            screen.warning(f"{path}: {warning}")
        if not explanation.faces:
            scored = explanation.result.faces_scored
            why = "the frames with its faces don't decode again" if scored else "no face has a score"
            screen.note(f"{why}, so there is nothing to explain; no file was written")
            return
        screen.result(regions_table(explanation))
        with screen.progress("writing the evidence"):
            *pictures, table = write_explanation(folder, explanation)
            Pages(scanner, command_line()).write(folder / PAGE, explanation.result, explanation)
    screen.note(
        f"pictures: {len(pictures)} in {folder}, the regions of each in {table.name}, all on one page in {PAGE}"
    )
