"""Annotated clips: a copy of a video with the results of its scan drawn over it.

The file is decoded in an isolated process, as for a scan, which also copies the sound at the end. Drawing and encoding
run concurrently in this process, because they handle plain pixels. A few frames are in memory at any time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import DecodeError, OutputError, TorchfakesError, UsageError
from torchfakes_cli.faces.tracking import Scene
from torchfakes_cli.files import check_folder, existing, is_special, temporary_beside, unwritable
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.overlay import Overlay
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.scanner import new_decoder
from torchfakes_cli.scan.verdict import Policy

if TYPE_CHECKING:
    from torchfakes_cli.scan.scanner import Progress
    from torchfakes_cli.video.isolation.client import IsolatedReader

#: Comment in the metadata of every annotated clip; it identifies an earlier one that may be replaced.
COMMENT = "Annotated by torchfakes. A low score is no proof of authenticity."

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
#: The comment lies within this many bytes of the start of an annotated clip, whose index comes first.
_COMMENT_WITHIN = 64 << 20


def annotate_video(
    path: str | PathLike[str],
    result: VideoResult,
    out: str | PathLike[str],
    *,
    policy: Policy | None = None,
    config: ScanConfig | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Write a copy of a video with face boxes, person numbers, scores and a bar of scores over time.

    The clip is H.264 in MP4 or MOV, upright, with every frame of the source at its original time, and with its sound.

    Args:
        path: path of the scanned video.
        result: result of its scan.
        out: path of the new clip, which appears only once it is complete.
        policy: verdict policy whose thresholds to show; None for those of the result.
        config: configuration of the scan; its limits apply to decoding.
        force: replace an existing file that isn't an annotated clip.
        progress: called after each frame with (frames done, total frames if known).

    Returns:
        Warnings in plain sentences, without those of the result.

    Raises:
        UsageError: the scan failed or was of a still picture, or ``out`` has another suffix or is the video itself.
        OutputError: the clip can't be written.
        MediaError: no frame of the video can be decoded.

    Example::

        result = scan_video("clip.mp4")
        annotate_video("clip.mp4", result, "annotated.mp4")
    """
    if result.status is not Status.OK:
        raise UsageError("its scan failed: there is nothing to draw", path=path)
    if result.is_picture:
        raise UsageError("a still picture makes no clip", path=path, advice="See 'torchfakes explain'.")
    check_clip_target(out, path, force=force)
    config = config or ScanConfig()
    if policy and (policy.fake_above, policy.real_below) != (result.fake_above, result.real_below):
        result = replace(result, fake_above=policy.fake_above, real_below=policy.real_below, error_rates=None)
    target = Path(os.path.realpath(out))
    silent, voiced = temporary_beside(target), temporary_beside(target)
    try:
        with new_decoder(config) as decoder, decoder.open(path) as reader:
            notes, whole = _draw(reader, result, silent, container_of(out), progress)
            complete = silent
            if whole:
                try:
                    added, more = reader.add_sound(silent, voiced, container_of(out))
                except TorchfakesError as error:
                    added, more = False, (f"sound left out: {error.cause}",)
                notes += more
                complete = voiced if added else silent
        try:
            with complete.open("rb") as file:
                os.fsync(file.fileno())
            complete.replace(target)
        except OSError as error:
            raise unwritable(target, error) from error
    except OutputError as error:  # it names the temporary file
        raise OutputError(error.cause, path=out, advice=error.advice) from error
    finally:
        silent.unlink(missing_ok=True)
        voiced.unlink(missing_ok=True)
    return tuple(note for note in dict.fromkeys(notes) if note not in result.warnings)


def _draw(
    reader: IsolatedReader, result: VideoResult, silent: Path, container: str, progress: Progress | None
) -> tuple[list[str], bool]:
    """Write the video stream; return warnings, and True if the whole video was decoded."""
    from torchfakes_cli.video.encode import ClipWriter

    info = reader.info
    end_s = info.duration_s or 0.0
    overlay = Overlay((info.width, info.height), result, end_s)
    last_scene: Scene | None = None
    last_s = 0.0
    problem = ""
    with ExitStack() as stack:
        writer: ClipWriter | None = None
        try:
            for done, frame in enumerate(reader.every_frame(), 1):
                if writer is None:  # no file is written for a video without a decodable frame
                    writer = stack.enter_context(
                        ClipWriter(silent, overlay.size, fps=info.fps, container=container, comment=COMMENT)
                    )
                scene = Scene.of(frame.pixels)
                cut = last_scene is not None and scene.is_cut_from(last_scene)
                last_scene, last_s = scene, frame.time_s
                picture = overlay.draw(frame.pixels, frame.time_s, cut=cut, damaged=frame.damaged)
                writer.write(picture, frame.time_s, end_s - frame.time_s)
                if progress:
                    progress(done, info.frame_count)
        except DecodeError as error:
            if writer is None:
                raise
            problem = f"annotated up to {last_s:.1f} s only, and without sound: {error.cause}"
    return [*reader.report.warnings, *([problem] if problem else [])], not problem


def container_of(path: str | PathLike[str]) -> str:
    """Return the container format for the suffix of a clip's path; raise a ``UsageError`` if it isn't MP4 or MOV."""
    suffix = Path(path).suffix.lower()
    if suffix not in _CONTAINERS:
        raise UsageError("an annotated clip is an MP4 or MOV file", path=path, advice="Give it a name such as out.mp4.")
    return _CONTAINERS[suffix]


def check_clip_target(path: str | PathLike[str], source: str | PathLike[str], *, force: bool = False) -> None:
    """Check in advance that an annotated clip can be written; it may replace an earlier one, but never the source.

    Raises:
        UsageError: the path has a suffix other than MP4 or MOV, or is the source itself.
        OutputError: the folder isn't writable, or the path holds another file.
    """
    container_of(path)
    target = Path(path)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise UsageError("is the clip itself", path=path, advice="Choose another name for the annotated one.")
    if is_special(target):
        raise OutputError("is no regular file", path=path, advice="Choose another name.")
    there = existing(target, _COMMENT_WITHIN, mode="rb")
    if there is not None and not force and COMMENT.encode() not in there:
        raise OutputError(
            "exists and was not annotated by torchfakes",
            path=path,
            advice="Choose another name, or replace it with --force.",
        )
    check_folder(Path(os.path.realpath(target)), advice="Choose another place for the annotated clip.")
