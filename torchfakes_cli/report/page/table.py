"""The timeline as a table of bearable length: for who can't see the plot, or wants the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchfakes_cli.records import FaceScore

#: Rows a table may have; a longer timeline is gathered in stretches.
MOST_ROWS = 1200
#: Lengths of stretches, in seconds: the first one that makes the table short enough is taken.
_LENGTHS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One person in one stretch, or a stretch's frames without a face.

    Attributes:
        start_s: the stretch's first frame that belongs here.
        end_s: its last one.
        track: None for frames without a face.
        rows: of the timeline that are gathered here.
        scored: how many of them have a score.
        p_fake: the highest of their scores; None where there is none.
        notes: why some have none, each once.
    """

    start_s: float
    end_s: float
    track: int | None
    rows: int
    scored: int
    p_fake: float | None
    notes: tuple[str, ...]


def table_rows(timeline: Sequence[FaceScore], most: int = MOST_ROWS) -> tuple[float | None, list[TableRow]]:
    """The rows, and the length of the stretches in seconds; None where every row stands for itself.

    Where even the longest stretches don't make it short enough, the table ends with the last row that has room.
    """
    if len(timeline) <= most:
        return None, [_gathered([row]) for row in timeline]
    for length in _LENGTHS_S:
        groups: dict[tuple[int, int], list[FaceScore]] = {}
        for row in timeline:
            groups.setdefault((int(row.time_s // length), row.track or 0), []).append(row)
        if len(groups) <= most:
            break
    return length, [_gathered(groups[key]) for key in sorted(groups)[:most]]


def _gathered(rows: Sequence[FaceScore]) -> TableRow:
    scores = [row.p_fake for row in rows if row.p_fake is not None]
    return TableRow(
        start_s=rows[0].time_s,
        end_s=rows[-1].time_s,
        track=rows[0].track,
        rows=len(rows),
        scored=len(scores),
        p_fake=max(scores, default=None),
        notes=tuple(dict.fromkeys(row.note for row in rows if row.note)),
    )
