"""The timeline of one clip as CSV: one row a face, and one for each sampled frame without any."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.cells import (
    PIXEL_DIGITS,
    SCORE_DIGITS,
    SHARPNESS_DIGITS,
    TIME_DIGITS,
    csv_line,
    number_cell,
    text_cell,
)
from torchfakes_cli.report.files import check_targets, write_whole

TIMELINE_COLUMNS = (
    "time_s",
    "frame",
    "track",
    "x1",
    "y1",
    "x2",
    "y2",
    "confidence",
    "sharpness",
    "logit",
    "p_fake",
    "note",
)


def check_timeline_targets(
    paths: Iterable[str | PathLike[str]], *, force: bool = False, make_folders: bool = False
) -> None:
    """Finds out before a scan whether its timelines can be written.

    An earlier timeline is replaced, being the same thing made again; any other file only with ``force``.

    Args:
        paths: of the timelines.
        force: let any file be replaced.
        make_folders: make the folders that are missing.

    Raises:
        OutputError: a folder can't be written, or a path is taken by something else.
    """
    header = ",".join(TIMELINE_COLUMNS)
    check_targets(
        paths, lambda line: line == header, kind="a timeline", option="-o", force=force, make_folders=make_folders
    )


def write_timeline(path: str | PathLike[str], timeline: Iterable[FaceScore]) -> None:
    """Writes the timeline, whole or not at all.

    Args:
        path: an existing file is replaced (see ``check_timeline_targets``).
        timeline: in order of time.

    Raises:
        OutputError: it can't be written.
    """
    lines = [csv_line(TIMELINE_COLUMNS), *(csv_line(_cells(row)) for row in timeline)]
    write_whole(Path(path), "".join(lines))


def _cells(row: FaceScore) -> list[str]:
    corners = row.face.box if row.face else (None, None, None, None)
    return [
        number_cell(row.time_s, TIME_DIGITS),
        number_cell(row.frame),
        number_cell(row.track),
        *(number_cell(corner, PIXEL_DIGITS) for corner in corners),
        number_cell(row.face.confidence if row.face else None, SCORE_DIGITS),
        number_cell(row.sharpness, SHARPNESS_DIGITS),
        number_cell(row.logit, SCORE_DIGITS),
        number_cell(row.p_fake, SCORE_DIGITS),
        text_cell(row.note),
    ]
