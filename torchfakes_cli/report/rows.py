"""Rows shared by all formats: one per file (``BatchRow``) and one per face (``TimelineRow``), typed and rounded."""

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
    """Row of one file. Numbers are rounded, and missing values are None, never an empty text.

    Attributes:
        path: path exactly as given, with bytes that aren't UTF-8 as surrogates.
        status: ``ok`` or ``error``; with ``error`` all counts are None.
        verdict: ``real``, ``fake`` or ``inconclusive``.
        p_fake: probability of the deciding track.
        reason: why the verdict is inconclusive.
        duration_s: duration of the video in seconds.
        width: width of the upright frame in pixels.
        height: height of the upright frame in pixels.
        fps: average frame rate.
        frames_sampled: number of sampled frames.
        faces_scored: number of scored faces.
        faces_blurry: number of faces that were too blurry to score.
        tracks: number of tracks.
        peak_time_s: time in seconds of the most suspicious face of the deciding track.
        elapsed_s: duration of the scan in seconds.
        model: name of the detector.
        error: one-line message with status ``error``.
        sha256: checksum of the file in hexadecimal.
        scanned_at: time of the result in UTC, as ISO 8601.
        real_below: a ``p_fake`` below this gives the verdict real.
        fake_above: smallest ``p_fake`` of the verdict fake.
        people_flagged: number of people whose score reaches ``fake_above``.
        warnings: warnings, separated by ``; ``.
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
    # Added later: tables of earlier versions lack them.
    sha256: str | None = None
    scanned_at: str | None = None
    real_below: float | None = None
    fake_above: float | None = None
    people_flagged: int | None = None
    warnings: str | None = None


class TimelineRow(NamedTuple):
    """Row of one face, or of a sampled frame without a face: the rounded values of a ``FaceScore``."""

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
#: Number of columns in tables of the first version.
FIRST_COLUMNS = BATCH_COLUMNS.index("error") + 1
TIMELINE_COLUMNS = TimelineRow._fields

#: Decimals of the columns whose numbers are not whole.
COLUMN_DIGITS = {
    **dict.fromkeys(("time_s", "duration_s", "peak_time_s", "elapsed_s"), TIME_DIGITS),
    **dict.fromkeys(("x1", "y1", "x2", "y2"), PIXEL_DIGITS),
    **dict.fromkeys(("p_fake", "logit", "confidence", "real_below", "fake_above"), SCORE_DIGITS),
    "sharpness": SHARPNESS_DIGITS,
    "fps": RATE_DIGITS,
}


def rounded(value: float | None, digits: int) -> float | None:
    """Round a number; return None for a missing or non-finite one, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) + 0.0


def batch_row(result: VideoResult) -> BatchRow:
    """Return the row of a result."""
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
        sha256=result.sha256 or None,
        scanned_at=result.scanned_at or None,
        real_below=rounded(result.real_below, SCORE_DIGITS),
        fake_above=rounded(result.fake_above, SCORE_DIGITS),
        people_flagged=result.people_flagged if known else None,
        warnings="; ".join(result.warnings) or None,
    )


def timeline_row(score: FaceScore) -> TimelineRow:
    """Return the row of a face, or of a frame without a face."""
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
    """Return the type of each column: ``str``, ``int`` or ``float``. All but ``path`` and ``status`` may be None."""
    return {column: (*get_args(hint), hint)[0] for column, hint in get_type_hints(row).items()}
