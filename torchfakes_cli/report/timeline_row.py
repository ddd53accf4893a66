"""What every timeline says of one face, or of a sampled frame without any, whatever its format."""

from __future__ import annotations

from typing import NamedTuple

from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.cells import PIXEL_DIGITS, SCORE_DIGITS, SHARPNESS_DIGITS, TIME_DIGITS, rounded


class TimelineRow(NamedTuple):
    """One face, as ``FaceScore`` has it. Numbers are rounded, and missing values are None, never an empty text."""

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


TIMELINE_COLUMNS = TimelineRow._fields

#: Decimals of the numbers that are not whole, by column.
TIMELINE_DIGITS = {
    "time_s": TIME_DIGITS,
    **dict.fromkeys(("x1", "y1", "x2", "y2"), PIXEL_DIGITS),
    "confidence": SCORE_DIGITS,
    "sharpness": SHARPNESS_DIGITS,
    "logit": SCORE_DIGITS,
    "p_fake": SCORE_DIGITS,
}


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
