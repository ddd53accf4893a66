"""Finding the faces of one video's samples with fewer searches: known faces are looked for where they were.

Between two samples that lie close together a face moves little. The cascade's last two networks, which take a tenth of
the time of a search, then find it from its last box, or from one beside it. Whole frames are searched at intervals,
after a cut, and where a known face is lost all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from torchfakes_cli.faces.boxes import iou
from torchfakes_cli.faces.shots import Scene
from torchfakes_cli.records import Box, Face, Frame

if TYPE_CHECKING:
    from torchfakes_cli.faces.cascade import FaceDetector

#: Every so manieth sample is searched whatever happens …
INTERVAL = 4
#: … and sooner where so much time has passed, so that a newcomer is found by then.
SEARCH_EACH_S = 3.0
#: Samples further apart than this are searched; those of one second may be, moved to key frames. In films and speeches
#: sampled once a second, following found 99 % or more of the faces that searches find.
MAX_GAP_S = 1.5
#: Overlap (intersection over union) with its last box from which a face counts as the one that was there.
SAME_FACE = 0.2
#: Overlap from which two faces found in one sample are one.
ONE_FACE = 0.5
#: Where a face that isn't where it was is looked for: so much of its side away.
MOVED = 0.3


class FaceFollower:
    """Finds the faces in the samples of one video, given in order of time.

    Args:
        detector: of faces; its own configuration counts.
        interval: of searches, in samples at most; 1 searches all.
        search_each_s: of searches, in seconds at most, to the next sample.
        max_gap_s: samples further apart are searched.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        interval: int = INTERVAL,
        search_each_s: float = SEARCH_EACH_S,
        max_gap_s: float = MAX_GAP_S,
    ) -> None:
        self._detector = detector
        self._interval = interval
        self._search_each_s = search_each_s
        self._max_gap_s = max_gap_s
        self._searched_s = -inf
        self._last: _Seen | None = None
        self._step = 0

    def follows(self, frames: Sequence[Frame]) -> bool:
        """Whether these frames, the next ones, lie close enough together for ``find`` to spare searches."""
        times = [frame.time_s for frame in frames]
        if self._last is not None:
            times.insert(0, self._last.time_s)
        return any(later - earlier <= self._max_gap_s for earlier, later in pairwise(times))

    def find(self, frames: Sequence[Frame]) -> list[list[Face]]:
        """Find the faces in the next frames.

        Args:
            frames: later than those before; the more at once, the better for the networks.

        Returns:
            For each frame its faces of any size, largest first, as ``FaceDetector.detect(…, any_size=True)`` does.
        """
        if not frames:
            return []
        seen = [_Seen(frame.time_s, frame.size, Scene.of(frame.pixels)) for frame in frames]
        before = [self._last, *seen[:-1]]
        linked = [last is not None and self._linked(last, now) for last, now in zip(before, seen, strict=True)]
        steps = []
        for now, link in zip(seen, linked, strict=True):
            self._step += 1
            late = now.time_s - self._searched_s >= self._search_each_s
            if not link or late or self._step == self._interval:
                self._step, self._searched_s = 0, now.time_s
            steps.append(self._step)

        def search(places: list[int]) -> None:
            found = self._detector.detect([frames[place].pixels for place in places], any_size=True)
            for place, faces in zip(places, found, strict=True):
                seen[place].faces = faces

        search([place for place, step in enumerate(steps) if step == 0])
        # Samples that come as many after a search go through the networks together.
        for step in range(1, max(steps) + 1):
            places = [place for place, number in enumerate(steps) if number == step]
            known = [last.faces if (last := before[place]) else [] for place in places]
            near = [
                [face.box for face in [*faces, *_ahead(place, seen, steps, linked)]]
                for place, faces in zip(places, known, strict=True)
            ]
            refined = self._detector.refine([frames[place].pixels for place in places], near)
            for place, faces in zip(places, refined, strict=True):
                seen[place].faces = faces
            missing = {place: self._lost(faces, seen[place]) for place, faces in zip(places, known, strict=True)}
            lost = {place: faces for place, faces in missing.items() if faces}
            # Those that moved on are found beside their places, at a tenth of the cost of a search.
            beside = [[box for face in faces for box in _around(face.box)] for faces in lost.values()]
            for place, faces in zip(
                lost, self._detector.refine([frames[place].pixels for place in lost], beside), strict=True
            ):
                seen[place].faces = _joined(seen[place].faces, faces)
            search([place for place, faces in lost.items() if self._lost(faces, seen[place])])
        self._last = seen[-1]
        return [now.faces for now in seen]

    def _linked(self, last: _Seen, now: _Seen) -> bool:
        """Whether faces of one sample can be followed to the next."""
        close = now.time_s - last.time_s <= self._max_gap_s and now.size == last.size
        return close and not now.scene.is_cut_from(last.scene)

    def _lost(self, known: Sequence[Face], now: _Seen) -> list[Face]:
        """The faces that matter and are not there any more."""
        smallest = self._detector.config.smallest
        return [
            face
            for face in known
            if face.size >= smallest and not any(iou(face.box, other.box) >= SAME_FACE for other in now.faces)
        ]


@dataclass(slots=True)
class _Seen:
    """A sample without its pixels."""

    time_s: float
    size: tuple[int, int]
    scene: Scene
    faces: list[Face] = field(default_factory=list)


def _ahead(place: int, seen: Sequence[_Seen], steps: Sequence[int], linked: Sequence[bool]) -> list[Face]:
    """The faces of the next sample that is searched, if it is at hand and of the same shot: newcomers among them."""
    for later in range(place + 1, len(seen)):
        if not linked[later]:
            break
        if steps[later] == 0:
            return seen[later].faces
    return []


def _around(box: Box) -> list[Box]:
    """Eight boxes around a box, each moved by ``MOVED`` of its longer side."""
    left, top, right, bottom = box
    step = MOVED * max(right - left, bottom - top)
    moves = [(x * step, y * step) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return [(left + x, top + y, right + x, bottom + y) for x, y in moves]


def _joined(found: Sequence[Face], others: Sequence[Face]) -> list[Face]:
    """All faces, each once, largest first."""
    new = [face for face in others if not any(iou(face.box, known.box) >= ONE_FACE for known in found)]
    return sorted([*found, *new], key=lambda face: face.size, reverse=True)
