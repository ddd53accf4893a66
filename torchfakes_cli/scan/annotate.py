"""A clip with what its scan found drawn over it.

The file is decoded in a process of its own, as for a scan, and that process brings every picture and, at the end, the
sound: whatever a hostile file does to its decoder, no more than that process is lost. Drawing and encoding happen here,
beside it: they work on plain pixels, which can do no harm, and both processes are busy at once. A few pictures are
alive at any time, however long the clip is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import (
    CheckpointError,
    DecodeError,
    ModelNotFoundError,
    OutputError,
    TorchfakesError,
    UsageError,
)
from torchfakes_cli.faces.shots import Scene
from torchfakes_cli.files import check_folder, first_line, is_special, temporary_beside, unwritable
from torchfakes_cli.records import Frame, Status, VideoInfo, VideoResult
from torchfakes_cli.report.overlay import Headline, Overlay, Person
from torchfakes_cli.report.summary import Word, summarise
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.verdict import Policy, deciding_track, settle_policy
from torchfakes_cli.video.isolation.client import IsolatedDecoder

if TYPE_CHECKING:
    from torchfakes_cli.scan.scanner import Progress
    from torchfakes_cli.video.isolation.client import IsolatedReader

#: Comment in every annotated clip, by which an earlier one is recognised.
COMMENT = "Annotated by torchfakes. A low score is no proof of authenticity."

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}

#: The comment lies within this many bytes of the end of the index (``moov``, ISO/IEC 14496-12).
_COMMENT_BYTES = 64 << 10


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
    """Writes a clip with boxes, people's numbers, scores and a bar of them over time.

    It is H.264 in MP4 or MOV, upright, with each frame of the source at its time, and its sound.

    Args:
        path: of the video that was scanned.
        result: of the scan.
        out: where the new clip goes; whole or not at all.
        policy: that made the verdict; None for that of ``config`` and the detector that the result names.
        config: of the scan: its limits count for decoding, too.
        force: replace a file that is no annotated clip.
        progress: called after each frame with (frames done, frames in all if known).

    Returns:
        What a user should know besides the result's own warnings, in plain sentences.

    Raises:
        UsageError: the scan failed, or of a still picture; or ``out`` is called like no clip or is the video itself.
        OutputError: the clip can't be written.
        MediaError: no frame of the video can be decoded.
        ModelError: the detector that the result names isn't known.

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
    policy = policy or _policy_of(result, config)
    target = Path(os.path.realpath(out))
    silent, voiced = temporary_beside(target), temporary_beside(target)
    decoder = IsolatedDecoder(timeout_s=config.timeout_s, memory_mb=config.memory_mb, hwaccel=config.hwaccel)
    try:
        with decoder, decoder.open(path) as reader:
            notes, whole = _draw(reader, _overlay(result, reader.info, policy), silent, container_of(out), progress)
            added = False
            if whole:
                added, more = _add_sound(reader, silent, voiced, container_of(out))
                notes += more
        _put_in_place(voiced if added else silent, target)
    except OutputError as error:  # of a file that has another name until it is whole
        raise OutputError(error.cause, path=out, advice=error.advice) from error
    finally:
        silent.unlink(missing_ok=True)
        voiced.unlink(missing_ok=True)
    return tuple(note for note in dict.fromkeys(notes) if note not in result.warnings)


def _policy_of(result: VideoResult, config: ScanConfig) -> Policy:
    """The policy of a scan with the detector that ships, or with one in the models folder."""
    from torchfakes_cli.detector.checkpoint import load_header
    from torchfakes_cli.detector.registry import installed, shipped_checkpoint

    for checkpoint in (shipped_checkpoint(), *installed().values()):
        with suppress(CheckpointError):  # a damaged one is none that scanned
            header = load_header(checkpoint)
            if header.name == result.model:
                return settle_policy(config.verdict, fake_above=header.fake_above, real_below=header.real_below)
    raise ModelNotFoundError(
        f"the thresholds of the detector {result.model!r} aren't known", advice="Give the policy of its scan."
    )


def _overlay(result: VideoResult, info: VideoInfo, policy: Policy) -> Overlay:
    track = deciding_track(result.tracks, policy)
    summary = summarise(result, policy)
    score = "" if result.reason else f" {summary.score}"
    why = f"{summary.score} {summary.short}".strip() if result.reason else summary.short
    return Overlay(
        (info.width, info.height),
        Headline(f"{summary.verdict.upper()}{score}", why, Word(summary.verdict.value)),
        {each.track.number: Person(each.track.number, each.word, each.track.p_fake) for each in summary.people},
        result.timeline,
        deciding=track.number if track else None,
        fake_above=policy.fake_above,
        real_below=policy.real_below,
        duration_s=info.duration_s or 0.0,
    )


def _draw(
    reader: IsolatedReader, overlay: Overlay, silent: Path, container: str, progress: Progress | None
) -> tuple[list[str], bool]:
    """Writes the pictures; what a user should know of them, and whether decoding came to its end."""
    from torchfakes_cli.video.encode import ClipWriter

    info = reader.info
    end_s = info.duration_s or 0.0
    last_scene: Scene | None = None
    frames = _Frames(reader)
    with ExitStack() as stack:
        writer: ClipWriter | None = None
        for done, frame in enumerate(frames, 1):
            if writer is None:  # nothing is made of a video of which no frame comes
                writer = stack.enter_context(
                    ClipWriter(silent, overlay.size, fps=info.fps, container=container, comment=COMMENT)
                )
            scene = Scene.of(frame.pixels)
            cut = last_scene is not None and scene.is_cut_from(last_scene)
            last_scene = scene
            picture = overlay.draw(frame.pixels, frame.time_s, cut=cut, damaged=frame.damaged)
            writer.write(picture, frame.time_s, end_s - frame.time_s)
            if progress:
                progress(done, info.frame_count)
    notes = list(reader.report.warnings)
    if frames.error is not None:
        notes.append(f"annotated up to {frames.last_s:.1f} s only, and without sound: {frames.error.cause}")
    return notes, frames.error is None


class _Frames:
    """All frames of a video, up to where decoding fails if it does.

    Attributes:
        error: why decoding ended early.
        last_s: time of the last frame.
    """

    def __init__(self, reader: IsolatedReader) -> None:
        self._reader = reader
        self.error: DecodeError | None = None
        self.last_s = -1.0

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in self._reader.every_frame():
                self.last_s = frame.time_s
                yield frame
        except DecodeError as error:
            if self.last_s < 0:
                raise
            self.error = error


def _add_sound(reader: IsolatedReader, silent: Path, voiced: Path, container: str) -> tuple[bool, list[str]]:
    try:
        added, notes = reader.add_sound(silent, voiced, container)
    except TorchfakesError as error:
        return False, [f"sound left out: {error.cause}"]
    return added, list(notes)


def _put_in_place(made: Path, target: Path) -> None:
    try:
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error


def container_of(path: str | PathLike[str]) -> str:
    """The format of an annotated clip of this name: ``mp4`` or ``mov``.

    Raises:
        UsageError: it is called like something else.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _CONTAINERS:
        raise UsageError("an annotated clip is an MP4 or MOV file", path=path, advice="Give it a name such as out.mp4.")
    return _CONTAINERS[suffix]


def check_clip_target(path: str | PathLike[str], source: str | PathLike[str], *, force: bool = False) -> None:
    """Check before the work that an annotated clip can be written.

    An earlier one is replaced; any other file only with ``force``, and the source
    never.

    Raises:
        UsageError: it is called like something else than a clip, or is the source itself.
        OutputError: its folder can't be written, or something else is in its place.
    """
    container_of(path)
    target = Path(path)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise UsageError("is the clip itself", path=path, advice="Choose another name for the annotated one.")
    if is_special(target):
        raise OutputError("is no regular file", path=path, advice="Choose another name.")
    there = first_line(target)  # also tells what can't be read
    if there is not None and not force and not _is_annotated(target):
        raise OutputError(
            "exists and was not annotated by torchfakes",
            path=path,
            advice="Choose another name, or replace it with --force.",
        )
    check_folder(Path(os.path.realpath(target)), advice="Choose another place for the annotated clip.")


def _is_annotated(path: Path) -> bool:
    """Whether a file bears the comment where an annotated clip has it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start + 8 <= size:
            file.seek(start)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if head[4:8] == b"moov":
                end = min(start + length, size)
                file.seek(max(start, end - _COMMENT_BYTES))
                return COMMENT.encode() in file.read(min(length, _COMMENT_BYTES))
            if length < 8:
                return False
            start += length
    return False
