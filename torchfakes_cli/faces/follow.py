"""Face detection across the samples of one video: most samples only refine the boxes of known faces.

A face moves little between samples that are close in time. The cascade's last two networks, which take a tenth of the
time of a full detection, then find it from its last box or a neighbouring one. Full detection runs at intervals, after
a cut, and when a known face is lost.
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

#: Run full detection at least every this many samples.
INTERVAL = 4
#: Run full detection at least once in this many seconds, so that new faces are found.
SEARCH_EACH_S = 3.0
#: Maximum seconds between samples for following; full detection runs beyond it. Samples taken once a second can be this
#: far apart after they move to key frames. On films and speeches sampled once a second, following found at least 99 %
#: of the faces that full detection finds.
MAX_GAP_S = 1.5
#: Minimum intersection over union of two boxes in consecutive samples that belong to the same face.
SAME_FACE = 0.2
#: Minimum intersection over union of two detections in one sample that are duplicates.
ONE_FACE = 0.5
#: Distance of the boxes searched around a lost face's last box, as a share of its longer side.
MOVED = 0.3


class FaceFollower:
    """Detects the faces in the samples of one video, given in order of time.

    Args:
        detector: face detector, used with its own configuration.
        interval: maximum number of samples between full detections; 1 runs full detection on every sample.
        search_each_s: maximum seconds between full detections.
        max_gap_s: maximum seconds between samples for following.
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
        """Returns whether some of the next frames are close enough in time for ``find`` to skip full detection."""
        times = [frame.time_s for frame in frames]
        if self._last is not None:
            times.insert(0, self._last.time_s)
        return any(later - earlier <= self._max_gap_s for earlier, later in pairwise(times))

    def find(self, frames: Sequence[Frame]) -> list[list[Face]]:
        """Detects the faces in the next frames.

        Args:
            frames: frames later than all previous ones; larger batches use the networks more efficiently.

        Returns:
            The faces of each frame, of any size, largest first, as from ``FaceDetector.detect(…, any_size=True)``.
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
        # Samples with the same distance from a full detection form one batch.
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
            # Faces that moved are found next to their last boxes, at a tenth of the cost of full detection.
            beside = [[box for face in faces for box in _around(face.box)] for faces in lost.values()]
            for place, faces in zip(
                lost, self._detector.refine([frames[place].pixels for place in lost], beside), strict=True
            ):
                seen[place].faces = _joined(seen[place].faces, faces)
            search([place for place, faces in lost.items() if self._lost(faces, seen[place])])
        self._last = seen[-1]
        return [now.faces for now in seen]

    def _linked(self, last: _Seen, now: _Seen) -> bool:
        """Returns whether faces can be followed from one sample to the next."""
        close = now.time_s - last.time_s <= self._max_gap_s and now.size == last.size
        return close and not now.scene.is_cut_from(last.scene)

    def _lost(self, known: Sequence[Face], now: _Seen) -> list[Face]:
        """Returns the known faces above the minimum size that the sample doesn't contain."""
        smallest = self._detector.config.smallest
        return [
            face
            for face in known
            if face.size >= smallest and not any(iou(face.box, other.box) >= SAME_FACE for other in now.faces)
        ]


@dataclass(slots=True)
class _Seen:
    """State of a sample without its pixels."""

    time_s: float
    size: tuple[int, int]
    scene: Scene
    faces: list[Face] = field(default_factory=list)


def _ahead(place: int, seen: Sequence[_Seen], steps: Sequence[int], linked: Sequence[bool]) -> list[Face]:
    """Returns the faces of the next fully detected sample in the batch and shot, which include new faces."""
    for later in range(place + 1, len(seen)):
        if not linked[later]:
            break
        if steps[later] == 0:
            return seen[later].faces
    return []


def _around(box: Box) -> list[Box]:
    """Returns eight boxes around a box, each shifted by ``MOVED`` times its longer side."""
    left, top, right, bottom = box
    step = MOVED * max(right - left, bottom - top)
    moves = [(x * step, y * step) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return [(left + x, top + y, right + x, bottom + y) for x, y in moves]


def _joined(found: Sequence[Face], others: Sequence[Face]) -> list[Face]:
    """Merges two lists of faces without duplicates, largest first."""
    new = [face for face in others if not any(iou(face.box, known.box) >= ONE_FACE for known in found)]
    return sorted([*found, *new], key=lambda face: face.size, reverse=True)
