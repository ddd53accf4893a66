"""Face tracking: follows each person's face through one shot by position and appearance; works without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.crops import crop_face
from torchfakes_cli.faces.shots import Scene, colours, overlap, shrunk
from torchfakes_cli.records import Box, Face, Frame

#: A track ends after more than this many seconds and more than this many samples without its face. Both are needed
#: because samples may be far apart.
MAX_GAP_S = 5.0
MAX_MISSED = 1
#: Maximum movement between samples in face sizes, for faces that don't look alike and for faces that do.
NEAR = 0.75
FAR = 3.0
#: Maximum ratio of the sizes of one person's face in neighbouring samples.
MAX_SIZE_RATIO = 1.8
#: Minimum histogram overlap (0 to 1) of faces that look alike.
ALIKE = 0.6
#: A face belongs to another person if its colour change (1 - histogram overlap) divided by the first limit plus the
#: layout change of the whole picture (grey levels) divided by the second exceeds 1. Colours alone don't separate people
#: in similar light, and the layout alone also changes when the camera moves. The limits were chosen on half of the
#: people in 94 genuine clips. On 60 montages of the other half, 1 joins two people (38 without this rule); of its 45
#: clips without a cut none is split into several tracks, or 2 at a quarter of the samples (none without this rule).
MAX_COLOUR_CHANGE = 0.45
MAX_LAYOUT_CHANGE = 42.0


@dataclass(slots=True)
class _Person:
    number: int
    box: Box
    time_s: float
    missed: int
    look: NDArray[np.float32]
    scene: Scene


class Tracker:
    """Assigns each face the number of its person's track.

    The tracker takes the frames of one video in order. A cut ends every track: the same person gets a new number after
    it. A face that looks like another person gets another number, regardless of its position. If only the faces reveal
    a cut, because the pictures are similar, a person who returns within ``MAX_GAP_S`` seconds keeps the number.
    """

    def __init__(self) -> None:
        self._persons: list[_Person] = []
        self._last_number = 0
        self._scene: Scene | None = None

    def update(self, frame: Frame, faces: Sequence[Face]) -> list[int]:
        """Assigns track numbers to the faces of the next frame.

        Args:
            frame: frame later than the previous one.
            faces: faces detected in the frame.

        Returns:
            The track number (from 1) of each face, in the given order.
        """
        scene = Scene.of(frame.pixels)
        if self._scene is not None and scene.is_cut_from(self._scene):
            self._persons.clear()
        change = scene.layout_change(self._scene) if self._scene is not None else 0.0
        self._scene = scene
        self._persons = [p for p in self._persons if frame.time_s - p.time_s <= MAX_GAP_S or p.missed <= MAX_MISSED]
        for person in self._persons:
            person.missed += 1
        looks = [_look(frame.pixels, face) for face in faces]
        # The change since the person was last seen counts too: a cut may lie in frames without the face.
        changes = [max(change, scene.layout_change(person.scene)) for person in self._persons]
        numbers: list[int | None] = [None] * len(faces)
        pairs = sorted(
            (distance, position, index)
            for position, face in enumerate(faces)
            for index, person in enumerate(self._persons)
            if (distance := _distance(person, face, looks[position], changes[index])) is not None
        )
        taken: set[int] = set()
        for _, position, index in pairs:
            if numbers[position] is None and index not in taken:
                person = self._persons[index]
                person.box, person.time_s, person.missed, person.scene = faces[position].box, frame.time_s, 0, scene
                # A moving average keeps the appearance stable through a turned head or a passing shadow.
                person.look = (0.7 * person.look + 0.3 * looks[position]).astype(np.float32)
                numbers[position] = person.number
                taken.add(index)
        for position, face in enumerate(faces):
            if numbers[position] is None:
                self._last_number += 1
                self._persons.append(_Person(self._last_number, face.box, frame.time_s, 0, looks[position], scene))
                numbers[position] = self._last_number
        return [number for number in numbers if number is not None]


def _distance(person: _Person, face: Face, look: NDArray[np.float32], layout_change: float) -> float | None:
    """Returns the matching distance of a person and a face; None if they can't match."""
    (ax, ay, a), (bx, by, b) = _centre_and_size(person.box), _centre_and_size(face.box)
    if max(a, b) > MAX_SIZE_RATIO * min(a, b):
        return None
    moved = float(np.hypot(ax - bx, ay - by)) / max(a, b)
    likeness = overlap(person.look, look)
    if (1 - likeness) / MAX_COLOUR_CHANGE + layout_change / MAX_LAYOUT_CHANGE > 1:
        return None
    if moved > (FAR if likeness >= ALIKE else NEAR):
        return None
    return moved + 2 * (1 - likeness)


def _centre_and_size(box: Box) -> tuple[float, float, float]:
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, max(1.0, x2 - x1, y2 - y1)


def _look(pixels: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
    """Returns the normalised colour histogram of a face with some hair and clothes around it."""
    return colours(shrunk(crop_face(pixels, face.box, 1.4), (48, 48)))
