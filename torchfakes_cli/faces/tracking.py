"""Faces across the samples of one video: scene cuts, detection between full searches, and each person's track.

This module works without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.crops import crop_face, iou
from torchfakes_cli.records import Box, Face, Frame

if TYPE_CHECKING:
    from torchfakes_cli.faces.mtcnn import FaceDetector

#: A cut needs a color histogram overlap below this, and at least this mean difference of the thumbnails in gray levels.
CUT_OVERLAP = 0.55
CUT_DIFFERENCE = 20.0
#: Histogram bins per color channel.
BINS = 6

#: Run full detection at least every this many samples, and at least once in this many seconds, to find new faces.
SEARCH_INTERVAL = 4
SEARCH_INTERVAL_S = 3.0
#: Maximum seconds between samples for following; full detection runs beyond it. Samples taken once a second can be this
#: far apart after they move to key frames. On films and speeches sampled once a second, following found at least 99 %
#: of the faces that full detection finds.
FOLLOW_GAP_S = 1.5
#: Minimum intersection over union of two boxes in consecutive samples that belong to the same face.
SAME_FACE = 0.2
#: Minimum intersection over union of two detections in one sample that are duplicates.
ONE_FACE = 0.5
#: Distance of the boxes searched around a lost face's last box, as a share of its longer side.
MOVED = 0.3

#: A track ends after more than this many seconds and more than this many samples without its face. Both are needed
#: because samples may be far apart.
TRACK_GAP_S = 5.0
MAX_MISSED = 1
#: Maximum movement between samples in face sizes, for faces that don't look alike and for faces that do.
NEAR = 0.75
FAR = 3.0
#: Maximum ratio of the sizes of one person's face in neighboring samples.
MAX_SIZE_RATIO = 1.8
#: Minimum histogram overlap (0 to 1) of faces that look alike.
ALIKE = 0.6
#: A face belongs to another person if its color change (1 - histogram overlap) divided by the first limit plus the
#: change of the whole picture's thumbnail (gray levels) divided by the second exceeds 1. Colors alone don't separate
#: people in similar light, and the thumbnail alone also changes when the camera moves. The limits were chosen on half
#: of the people in 94 genuine clips. On 60 montages of the other half, 1 joins two people (38 without this rule); of
#: its 45 clips without a cut none is split into several tracks, or 2 at a quarter of the samples (none without it).
MAX_COLOR_CHANGE = 0.45
MAX_SCENE_CHANGE = 42.0

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Visual summary of a whole picture: its normalized color histogram, 6×6×6, and a thumbnail of 9×16×3."""

    histogram: Floats
    thumbnail: Floats

    @classmethod
    def of(cls, pixels: Pixels) -> Scene:
        """Summarize an H×W×3 RGB picture."""
        small = _shrunk(pixels, (64, 36))
        return cls(_color_histogram(small), _shrunk(small, (16, 9)).astype(np.float32))

    def is_cut_from(self, before: Scene) -> bool:
        """Return whether a cut lies between the picture ``before`` and this one."""
        return self.change(before) >= CUT_DIFFERENCE and _overlap(before.histogram, self.histogram) < CUT_OVERLAP

    def change(self, before: Scene) -> float:
        """Return the mean difference of the thumbnails in gray levels."""
        return float(np.abs(before.thumbnail - self.thumbnail).mean())


class FaceFollower:
    """Detects the faces in the samples of one video, given in order of time; most samples only refine known boxes.

    A face moves little between samples that are close in time. The cascade's last two networks, which take a tenth of
    the time of a full detection, then find it from its last box or a neighboring one. Full detection runs at intervals,
    after a cut, and when a known face is lost.

    Args:
        detector: face detector, used with its own configuration.
        interval: maximum number of samples between full detections; 1 runs full detection on every sample.
    """

    def __init__(self, detector: FaceDetector, *, interval: int = SEARCH_INTERVAL) -> None:
        self._detector = detector
        self._interval = interval
        self._searched_s = -inf
        self._last: _Sample | None = None
        self._step = 0

    def follows(self, frames: Sequence[Frame]) -> bool:
        """Return whether some of the next frames are close enough in time for ``find`` to skip full detection."""
        times = [frame.time_s for frame in frames]
        if self._last is not None:
            times.insert(0, self._last.time_s)
        return any(later - earlier <= FOLLOW_GAP_S for earlier, later in pairwise(times))

    def find(self, frames: Sequence[Frame]) -> list[list[Face]]:
        """Detect the faces in the next frames, with results as from ``FaceDetector.detect(…, any_size=True)``."""
        if not frames:
            return []
        samples = [_Sample(frame.time_s, frame.size, Scene.of(frame.pixels)) for frame in frames]
        before = [self._last, *samples[:-1]]
        linked = [last is not None and now.follows(last) for last, now in zip(before, samples, strict=True)]
        steps = []
        for now, link in zip(samples, linked, strict=True):
            self._step += 1
            late = now.time_s - self._searched_s >= SEARCH_INTERVAL_S
            if not link or late or self._step == self._interval:
                self._step, self._searched_s = 0, now.time_s
            steps.append(self._step)

        def search(indices: list[int]) -> None:
            found = self._detector.detect([frames[index].pixels for index in indices], any_size=True)
            for index, faces in zip(indices, found, strict=True):
                samples[index].faces = faces

        def refine(near: dict[int, list[Box]]) -> None:
            found = self._detector.refine([frames[index].pixels for index in near], list(near.values()))
            for index, faces in zip(near, found, strict=True):
                samples[index].faces = _joined(samples[index].faces, faces)

        search([index for index, step in enumerate(steps) if step == 0])
        # Samples with the same distance from a full detection form one batch.
        for step in range(1, max(steps) + 1):
            known = {
                index: last.faces if (last := before[index]) else []
                for index, number in enumerate(steps)
                if number == step
            }
            ahead = {index: _next_searched(index, samples, steps, linked) for index in known}
            refine({index: [face.box for face in [*faces, *ahead[index]]] for index, faces in known.items()})
            lost = {index: faces for index in known if (faces := self._lost(known[index], samples[index]))}
            # Faces that moved are found next to their last boxes, at a tenth of the cost of full detection.
            refine({index: [box for face in faces for box in _around(face.box)] for index, faces in lost.items()})
            search([index for index, faces in lost.items() if self._lost(faces, samples[index])])
        self._last = samples[-1]
        return [now.faces for now in samples]

    def _lost(self, known: Sequence[Face], now: _Sample) -> list[Face]:
        """Return the known faces above the minimum size that the sample doesn't contain."""
        smallest = self._detector.config.smallest
        return [
            face
            for face in known
            if face.size >= smallest and not any(iou(face.box, other.box) >= SAME_FACE for other in now.faces)
        ]


@dataclass(slots=True)
class _Sample:
    """State of a sample without its pixels."""

    time_s: float
    size: tuple[int, int]
    scene: Scene
    faces: list[Face] = field(default_factory=list)

    def follows(self, last: _Sample) -> bool:
        """Return whether faces can be followed from the last sample to this one."""
        close = self.time_s - last.time_s <= FOLLOW_GAP_S and self.size == last.size
        return close and not self.scene.is_cut_from(last.scene)


def _next_searched(
    index: int, samples: Sequence[_Sample], steps: Sequence[int], linked: Sequence[bool]
) -> Sequence[Face]:
    """Return the faces of the next fully detected sample in the batch and shot, which include new faces."""
    for later in range(index + 1, len(samples)):
        if not linked[later]:
            break
        if steps[later] == 0:
            return samples[later].faces
    return ()


def _around(box: Box) -> list[Box]:
    """Return eight boxes around a box, each shifted by ``MOVED`` times its longer side."""
    left, top, right, bottom = box
    step = MOVED * max(right - left, bottom - top)
    moves = [(x * step, y * step) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return [(left + x, top + y, right + x, bottom + y) for x, y in moves]


def _joined(found: Sequence[Face], others: Sequence[Face]) -> list[Face]:
    """Merge two lists of faces without duplicates, largest first."""
    new = [face for face in others if not any(iou(face.box, known.box) >= ONE_FACE for known in found)]
    return sorted([*found, *new], key=lambda face: face.size, reverse=True)


@dataclass(slots=True)
class _Person:
    number: int
    box: Box
    time_s: float
    missed: int
    look: Floats
    scene: Scene


class FaceTracker:
    """Assigns each face the number of its person's track, by position and appearance.

    The tracker takes the frames of one video in order. A cut ends every track: the same person gets a new number after
    it. A face that looks like another person gets another number, regardless of its position. If only the faces reveal
    a cut, because the pictures are similar, a person who returns within ``TRACK_GAP_S`` seconds keeps the number.
    """

    def __init__(self) -> None:
        self._persons: list[_Person] = []
        self._last_number = 0
        self._scene: Scene | None = None

    def update(self, frame: Frame, faces: Sequence[Face]) -> list[int]:
        """Return the track number, from 1, of each face in the next frame."""
        scene = Scene.of(frame.pixels)
        if self._scene is not None and scene.is_cut_from(self._scene):
            self._persons.clear()
        change = scene.change(self._scene) if self._scene is not None else 0.0
        self._scene = scene
        self._persons = [p for p in self._persons if frame.time_s - p.time_s <= TRACK_GAP_S or p.missed <= MAX_MISSED]
        for person in self._persons:
            person.missed += 1
        looks = [_look(frame.pixels, face) for face in faces]
        # The change since the person was last seen counts too: a cut may lie in frames without the face.
        changes = [max(change, scene.change(person.scene)) for person in self._persons]
        numbers = [0] * len(faces)
        pairs = sorted(
            (distance, position, index)
            for position, face in enumerate(faces)
            for index, person in enumerate(self._persons)
            if (distance := _distance(person, face, looks[position], changes[index])) is not None
        )
        taken: set[int] = set()
        for _, position, index in pairs:
            if not numbers[position] and index not in taken:
                person = self._persons[index]
                person.box, person.time_s, person.missed, person.scene = faces[position].box, frame.time_s, 0, scene
                # A moving average keeps the appearance stable through a turned head or a passing shadow.
                person.look = (0.7 * person.look + 0.3 * looks[position]).astype(np.float32)
                numbers[position] = person.number
                taken.add(index)
        for position, face in enumerate(faces):
            if not numbers[position]:
                self._last_number += 1
                self._persons.append(_Person(self._last_number, face.box, frame.time_s, 0, looks[position], scene))
                numbers[position] = self._last_number
        return numbers


def _distance(person: _Person, face: Face, look: Floats, scene_change: float) -> float | None:
    """Return the matching distance of a person and a face; None if they can't match."""
    (ax, ay, a), (bx, by, b) = _center_and_size(person.box), _center_and_size(face.box)
    if max(a, b) > MAX_SIZE_RATIO * min(a, b):
        return None
    moved = float(np.hypot(ax - bx, ay - by)) / max(a, b)
    likeness = _overlap(person.look, look)
    if (1 - likeness) / MAX_COLOR_CHANGE + scene_change / MAX_SCENE_CHANGE > 1:
        return None
    if moved > (FAR if likeness >= ALIKE else NEAR):
        return None
    return moved + 2 * (1 - likeness)


def _center_and_size(box: Box) -> tuple[float, float, float]:
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, max(1.0, x2 - x1, y2 - y1)


def _look(pixels: Pixels, face: Face) -> Floats:
    """Return the normalized color histogram of a face with some hair and clothes around it."""
    return _color_histogram(_shrunk(crop_face(pixels, face.box, 1.4), (48, 48)))


def _shrunk(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Reduce a picture to (width, height) by area averaging; large pictures are subsampled first.

    Up to 4×4 pixels per result pixel are accurate enough, and averaging whole steps is many times faster.
    """
    height, width = pixels.shape[:2]
    step = min(4, width // size[0], height // size[1])
    if step > 1:
        chosen = (step * size[0], step * size[1])
        pixels = np.asarray(cv2.resize(pixels, chosen, interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _color_histogram(pixels: Pixels) -> Floats:
    """Return the normalized 6×6×6 color histogram of a picture."""
    histogram: NDArray[Any] = cv2.calcHist([pixels], [0, 1, 2], None, [BINS] * 3, [0, 256] * 3)
    # Blurring over neighboring bins makes the histogram robust to small changes of light.
    smooth = (_BLUR @ histogram.ravel()).reshape(histogram.shape)
    return np.asarray(smooth / max(1e-6, float(smooth.sum())), np.float32)


def _overlap(a: Floats, b: Floats) -> float:
    """Return the intersection of two normalized histograms, 0 to 1."""
    return float(np.minimum(a, b).sum())


def _blur() -> Floats:
    """Build the blur matrix of the flattened histogram: ¼, ½, ¼ along each channel; at the edges ¼ stays in the bin."""
    bins = np.arange(BINS)
    along = np.eye(BINS) / 2
    for step in (-1, 1):
        along[bins, np.clip(bins + step, 0, BINS - 1)] += 0.25
    return np.kron(along, np.kron(along, along)).astype(np.float32)


_BLUR = _blur()
