"""The timeline of one clip as CSV: one row a face, and one for each sampled frame without any."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.cells import csv_cells, csv_line
from torchfakes_cli.report.files import check_targets, write_whole
from torchfakes_cli.report.timeline_row import TIMELINE_COLUMNS, TIMELINE_DIGITS, timeline_row


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
    rows = (csv_cells(TIMELINE_COLUMNS, timeline_row(score), TIMELINE_DIGITS) for score in timeline)
    write_whole(Path(path), "".join(map(csv_line, [TIMELINE_COLUMNS, *rows])))
