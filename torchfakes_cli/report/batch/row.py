"""What every table of a batch says of one file, whatever its format: the columns, their order and their types."""

from __future__ import annotations

from typing import NamedTuple, get_args, get_type_hints

from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.report.cells import RATE_DIGITS, SCORE_DIGITS, TIME_DIGITS, rounded


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
        height: likewise.
        fps: average frame rate.
        frames_sampled: frames looked at.
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


BATCH_COLUMNS = BatchRow._fields

#: Decimals of the numbers that are not whole, by column.
BATCH_DIGITS = {
    "p_fake": SCORE_DIGITS,
    "duration_s": TIME_DIGITS,
    "fps": RATE_DIGITS,
    "peak_time_s": TIME_DIGITS,
    "elapsed_s": TIME_DIGITS,
}


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


def column_types(row: type[tuple[object, ...]]) -> dict[str, type]:
    """The type of each column of a kind of row, text, whole number or number; any but ``str`` alone may be missing."""
    return {column: (*get_args(hint), hint)[0] for column, hint in get_type_hints(row).items()}
