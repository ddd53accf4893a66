"""Columns of all formats: the row of a file (``BatchRow``) and of a face (``TimelineRow``), typed and rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from torchfakes_cli.records import FaceScore, Status, VideoResult


class BatchRow(NamedTuple):
    """Row of one file: the values of a ``VideoResult``, rounded; a missing one is None, never an empty text.

    ``path`` is exactly as given, with bytes that aren't UTF-8 as surrogates; with status ``error`` all counts are None.
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
TIMELINE_COLUMNS = TimelineRow._fields
#: Number of columns in tables of the first version.
_FIRST_COLUMNS = BATCH_COLUMNS.index("error") + 1

#: Decimals of the columns whose numbers are not whole.
COLUMN_DIGITS = {
    **dict.fromkeys(("time_s", "duration_s", "peak_time_s", "elapsed_s", "start_s", "end_s"), 3),
    **dict.fromkeys(("x1", "y1", "x2", "y2", "box", "landmarks"), 1),
    **dict.fromkeys(("p_fake", "logit", "confidence", "real_below", "fake_above"), 4),
    **dict.fromkeys(("area_share", "fake_share", "real_share"), 4),
    "sharpness": 2,
    "fps": 3,
}

Row = TypeVar("Row", BatchRow, TimelineRow)


def rounded(value: float | None, digits: int) -> float | None:
    """Round a number; return None for a missing or non-finite one, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) + 0.0


def batch_row(result: VideoResult) -> BatchRow:
    """Return the row of a result; columns are named after the attributes of ``VideoResult`` and ``VideoInfo``."""
    values: dict[str, Any] = {column: getattr(result, column, None) for column in BATCH_COLUMNS}
    values |= {column: getattr(result.info, column, None) for column in ("duration_s", "width", "height", "fps")}
    values |= {"tracks": len(result.tracks), "warnings": "; ".join(result.warnings)}
    if result.status is not Status.OK:  # nothing is counted in a file that failed
        values |= dict.fromkeys(("frames_sampled", "faces_scored", "faces_blurry", "tracks", "people_flagged"))
    return _plain(BatchRow(**values))


def timeline_row(score: FaceScore) -> TimelineRow:
    """Return the row of a face, or of a frame without a face."""
    x1, y1, x2, y2 = score.face.box if score.face else (None, None, None, None)
    confidence = score.face.confidence if score.face else None
    numbers = (score.time_s, score.frame, score.track, x1, y1, x2, y2, confidence)
    return _plain(TimelineRow(*numbers, score.sharpness, score.logit, score.p_fake, score.note))


def _plain(row: Row) -> Row:
    """Round the numbers by their columns, make enum members plain text, and empty texts None."""

    def plain(column: str, value: Any) -> Any:
        if isinstance(value, str):
            return str(value) or None
        return rounded(value, COLUMN_DIGITS[column]) if column in COLUMN_DIGITS else value

    return type(row)._make(map(plain, row._fields, row))


def column_types(row: type[BatchRow | TimelineRow]) -> dict[str, type]:
    """Return the type of each column: ``str``, ``int`` or ``float``. All but ``path`` and ``status`` may be None."""
    return {column: (*get_args(hint), hint)[0] for column, hint in get_type_hints(row).items()}


def are_batch_columns(columns: Sequence[str]) -> bool:
    """Return True for the columns of a table; one that an earlier version wrote lacks the last ones."""
    return len(columns) >= _FIRST_COLUMNS and tuple(columns) == BATCH_COLUMNS[: len(columns)]
