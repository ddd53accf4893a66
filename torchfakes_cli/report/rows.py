"""The rows that every format shares: one a file (``BatchRow``) and one a face (``TimelineRow``), typed and rounded."""

from __future__ import annotations

import math
from typing import NamedTuple, get_args, get_type_hints

from torchfakes_cli.records import FaceScore, Status, VideoResult

#: Decimals of each kind of number, in every format.
TIME_DIGITS = 3
PIXEL_DIGITS = 1
SCORE_DIGITS = 4
SHARPNESS_DIGITS = 2
RATE_DIGITS = 3


class BatchRow(NamedTuple):
    """One file. Numbers are rounded, and missing values are None, never an empty text.

    Attributes:
        path: exactly as it was given, bytes that are no UTF-8 as surrogates.
        status: ``ok`` or ``error``; without ``ok`` nothing is counted.
        verdict: ``real``, ``fake`` or ``inconclusive``.
        p_fake: of the track that decided.
        reason: why the verdict is inconclusive.
        duration_s: of the video.
        width: of the upright picture in pixels.
        height: of the upright picture in pixels.
        fps: average frame rate.
        frames_sampled: frames that were examined.
        faces_scored: faces that were sharp enough to score.
        faces_blurry: faces that were not.
        tracks: people found.
        peak_time_s: time of the most suspicious face of the deciding track.
        elapsed_s: seconds the scan took.
        model: name of the detector.
        error: one line, with status ``error``.
    """

    path: str
    status: str
    verdict: str | None
    p_fake: float | None
    reason: str | None
    duration_s: float | None
    width: int | None
    height: int | None
    fps: float | None
    frames_sampled: int | None
    faces_scored: int | None
    faces_blurry: int | None
    tracks: int | None
    peak_time_s: float | None
    elapsed_s: float | None
    model: str | None
    error: str | None


class TimelineRow(NamedTuple):
    """One face, or a sampled frame without any, as ``FaceScore`` has it; rounded, None for what is missing."""

    time_s: float | None
    frame: int | None
    track: int | None
    x1: float | None
    y1: float | None
    x2: float | None
    y2: float | None
    confidence: float | None
    sharpness: float | None
    logit: float | None
    p_fake: float | None
    note: str | None


BATCH_COLUMNS = BatchRow._fields
TIMELINE_COLUMNS = TimelineRow._fields

#: Decimals of the columns whose numbers are not whole.
COLUMN_DIGITS = {
    **dict.fromkeys(("time_s", "duration_s", "peak_time_s", "elapsed_s"), TIME_DIGITS),
    **dict.fromkeys(("x1", "y1", "x2", "y2"), PIXEL_DIGITS),
    **dict.fromkeys(("p_fake", "logit", "confidence"), SCORE_DIGITS),
    "sharpness": SHARPNESS_DIGITS,
    "fps": RATE_DIGITS,
}


def rounded(value: float | None, digits: int) -> float | None:
    """Round a number; None for a missing or non-finite one, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) + 0.0


def batch_row(result: VideoResult) -> BatchRow:
    """The row of a result."""
    info = result.info
    known = result.status is Status.OK  # nothing is counted in a file that failed
    return BatchRow(
        path=result.path,
        status=result.status.value,
        verdict=result.verdict.value if result.verdict else None,
        p_fake=rounded(result.p_fake, SCORE_DIGITS),
        reason=result.reason.value if result.reason else None,
        duration_s=rounded(info.duration_s, TIME_DIGITS) if info else None,
        width=info.width if info else None,
        height=info.height if info else None,
        fps=rounded(float(info.fps), RATE_DIGITS) if info and info.fps is not None else None,
        frames_sampled=result.frames_sampled if known else None,
        faces_scored=result.faces_scored if known else None,
        faces_blurry=result.faces_blurry if known else None,
        tracks=len(result.tracks) if known else None,
        peak_time_s=rounded(result.peak_time_s, TIME_DIGITS),
        elapsed_s=rounded(result.elapsed_s, TIME_DIGITS),
        model=result.model or None,
        error=result.error or None,
    )


def timeline_row(score: FaceScore) -> TimelineRow:
    """The row of a face, or of a frame without any."""
    x1, y1, x2, y2 = score.face.box if score.face else (None, None, None, None)
    return TimelineRow(
        time_s=rounded(score.time_s, TIME_DIGITS),
        frame=score.frame,
        track=score.track,
        x1=rounded(x1, PIXEL_DIGITS),
        y1=rounded(y1, PIXEL_DIGITS),
        x2=rounded(x2, PIXEL_DIGITS),
        y2=rounded(y2, PIXEL_DIGITS),
        confidence=rounded(score.face.confidence if score.face else None, SCORE_DIGITS),
        sharpness=rounded(score.sharpness, SHARPNESS_DIGITS),
        logit=rounded(score.logit, SCORE_DIGITS),
        p_fake=rounded(score.p_fake, SCORE_DIGITS),
        note=score.note or None,
    )


def column_types(row: type[tuple[object, ...]]) -> dict[str, type]:
    """The type of each column, ``str``, ``int`` or ``float``; any value but ``path`` and ``status`` may be missing."""
    return {column: (*get_args(hint), hint)[0] for column, hint in get_type_hints(row).items()}
