"""``torchfakes explain``: heat maps of representative faces, and a table of facial regions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from torchfakes_cli.cli import options as opt
from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import OUTPUT, option
from torchfakes_cli.errors import UsageError
from torchfakes_cli.scan.config import FACES_A_TRACK, MOST_TRACKS

#: The page in the folder of an explanation.
PAGE = "report.html"


def explain_command(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Explain the verdict on this video or picture.")],
    output: Annotated[
        str | None,
        option(
            OUTPUT,
            "FOLDER",
            "Write the pictures and the table into this folder.",
            "--output",
            "-o",
            default="clip.explain in the current folder",
        ),
    ] = None,
    faces_a_track: Annotated[
        int, option(OUTPUT, "N", "Show at most this many faces of a person.", "--faces")
    ] = FACES_A_TRACK,
    people: Annotated[int, option(OUTPUT, "N", "Show at most this many people.")] = MOST_TRACKS,
    force: Annotated[bool, option(OUTPUT, None, "Write into a folder that holds other files.", "--force")] = False,
    fps: opt.Fps = None,
    frames: opt.Frames = None,
    start_s: opt.Start = None,
    end_s: opt.End = None,
    key_frames: opt.KeyFrames = opt.DEFAULT_SAMPLING.key_frames,
    min_face: opt.MinFace = opt.DEFAULT_FACES.min_face,
    blur_threshold: opt.BlurThreshold = opt.DEFAULT_FACES.blur_threshold,
    threshold: opt.Threshold = None,
    model: opt.Model = None,
    device: opt.Device = opt.DEFAULT_SCAN.device,
    timeout_s: opt.Timeout = opt.DEFAULT_SCAN.timeout_s,
    hwaccel: opt.Hwaccel = opt.DEFAULT_SCAN.hwaccel,
    memory_mb: opt.MemoryLimit = opt.DEFAULT_SCAN.memory_mb,
    debug: opt.Debug = False,
) -> None:
    """Explain a verdict: show representative faces with heat maps of the detector.

    The video is scanned. For the faces of each person that score highest, lowest and near the person's own score, a
    picture shows the face and, by Grad-CAM, the regions that speak for "fake" and for "real"; a table gives the shares
    of eyes, nose, mouth, chin, cheeks, forehead and the surroundings; a page holds all of it. Heat maps show where the
    detector finds evidence, not why.
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.cli.console import show_verdict
        from torchfakes_cli.cli.console.scan_view import regions_table
        from torchfakes_cli.report import check_explanation_target, write_explanation
        from torchfakes_cli.scan.explain import explain_video
        from torchfakes_cli.scan.output_paths import explanation_folder
        from torchfakes_cli.scan.pages import Pages
        from torchfakes_cli.scan.scanner import Scanner

        opt.refuse_urls([path])
        if min(faces_a_track, people) < 1:
            raise UsageError("at least one face of one person must be shown")
        folder = Path(output) if output else explanation_folder(path)
        if os.path.lexists(path):
            check_explanation_target(folder, force=force)
        with screen.progress("starting"):
            scanner = Scanner(opt.scan_config(context), model=model)
        with scanner:
            with screen.progress(Path(path).name) as advance:
                explanation = explain_video(
                    path, faces_a_track=faces_a_track, most_tracks=people, progress=advance, scanner=scanner
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
                Pages(scanner, opt.command_line()).write(folder / PAGE, explanation.result, explanation)
        screen.note(
            f"pictures: {len(pictures)} in {folder}, the regions of each in {table.name}, all on one page in {PAGE}"
        )
