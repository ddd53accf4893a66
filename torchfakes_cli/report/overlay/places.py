"""Where the faces are at any time, from the samples in which they were found.

Between two neighbouring samples that show a person, at most two seconds apart, the box moves straight from one place to
the other. Where the next sample doesn't show that person, the box stays for half a second, but for no longer than half
the way to that sample. A cut in the picture takes all boxes away until the next sample: nothing is known of a new shot
before that. Nor does a box come before the first sample that shows its person.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torchfakes_cli.records import Box, FaceScore

#: Seconds between samples over which a box moves along. Samples of one a second may be 1.5 s apart.
MAX_GAP_S = 2.0
#: Seconds for which a box stays where nothing tells where it goes.
HOLD_S = 0.5
#: Times that differ by less are the same.
_SAME_S = 1e-6


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """A face at some time.

    Attributes:
        box: where it is, or is taken to be, in pixels of the frame.
        row: of the sample it is known from, this one or the one before.
        sampled: whether that sample is this very frame.
    """

    box: Box
    row: FaceScore
    sampled: bool


class FacePlaces:
    """Tells where the faces are, frame by frame.

    Args:
        timeline: one row a face and one for each sampled frame without any, in order of time.
    """

    def __init__(self, timeline: Sequence[FaceScore]) -> None:
        moments = [(time_s, list(rows)) for time_s, rows in groupby(timeline, key=lambda row: row.time_s)]
        self._times = [time_s for time_s, _ in moments]
        self._rows = [[row for row in rows if row.face is not None] for _, rows in moments]
        self._cut_s = -1.0

    def cut(self, time_s: float) -> None:
        """The picture shown at this time begins a new shot."""
        self._cut_s = time_s

    def at(self, time_s: float) -> list[PlacedFace]:
        """The faces at a time, in the order of the timeline."""
        place = bisect_right(self._times, time_s + _SAME_S) - 1
        if place < 0:
            return []
        since = time_s - self._times[place]
        if since <= _SAME_S:
            return [PlacedFace(_box(row), row, sampled=True) for row in self._rows[place]]
        if self._cut_s > self._times[place] + _SAME_S:
            return []
        following, gap = [], float("inf")
        if place + 1 < len(self._times):
            following, gap = self._rows[place + 1], self._times[place + 1] - self._times[place]
        next_boxes = {row.track: _box(row) for row in following} if gap <= MAX_GAP_S else {}
        faces = []
        for row in self._rows[place]:
            box = _box(row)
            if row.track in next_boxes:
                faces.append(PlacedFace(_between(box, next_boxes[row.track], since / gap), row, sampled=False))
            elif since <= min(HOLD_S, gap / 2):
                faces.append(PlacedFace(box, row, sampled=False))
        return faces


def _box(row: FaceScore) -> Box:
    assert row.face is not None, "only rows with a face are kept"
    return row.face.box


def _between(a: Box, b: Box, share: float) -> Box:
    x1, y1, x2, y2 = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return x1, y1, x2, y2
