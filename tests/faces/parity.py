"""How far the cascade's faces agree with those of facenet-pytorch's driver on the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from facenet_pytorch import MTCNN
from numpy.typing import NDArray

from tests.portraits import Pixels, scene
from torchfakes_cli.faces.crops import iou
from torchfakes_cli.records import Face

#: Faces with a shorter side than this aren't compared.
SMALLEST = 40.0


def reference_faces(mtcnn: MTCNN, frame: Pixels) -> list[Face]:
    """What facenet-pytorch finds in one frame."""
    boxes, confidences, landmarks = mtcnn.detect(frame, landmarks=True)
    if boxes is None:
        return []
    rows = zip(boxes.tolist(), confidences.tolist(), landmarks.tolist(), strict=True)
    return [Face(tuple(box), score, tuple(map(tuple, points))) for box, score, points in rows]


def crowd(size: tuple[int, int], people: int, seed: int) -> Pixels:
    """A (width, height) picture of a mottled wall with so many heads of 40 to 300 px before it, none over another."""
    rng = np.random.default_rng(seed)
    width, height = size
    wall = rng.normal(110, 30, (height // 40 + 1, width // 40 + 1, 3))
    picture = np.asarray(cv2.resize(wall, size, interpolation=cv2.INTER_CUBIC))
    taken: NDArray[np.bool_] = np.zeros((height, width), bool)
    for _ in range(people):
        side = int(np.exp(rng.uniform(np.log(100), np.log(min(600, height // 2) if people < 8 else 260))))
        for _ in range(50):
            x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            if not taken[y : y + side, x : x + side].any():
                picture[y : y + side, x : x + side] = scene((side, side), (side / 2, side / 2), side * 0.42)
                taken[y : y + side, x : x + side] = True
                break
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


@dataclass
class Parity:
    """Counts over frames.

    Attributes:
        wanted: faces of the reference.
        found: those of them that were found, at an overlap of one half.
        extra: faces that the reference doesn't have.
        landmarks: for each face found, how far its landmarks lie from the reference's on average, in shares of the
            box's side.
    """

    wanted: int = 0
    found: int = 0
    extra: int = 0
    landmarks: list[float] = field(default_factory=list)

    def add(self, reference: Sequence[Face], own: Sequence[Face]) -> None:
        for face in reference:
            best = max(own, key=lambda other: iou(face.box, other.box), default=None)
            if face.size < SMALLEST:
                continue
            self.wanted += 1
            if best is not None and iou(face.box, best.box) >= 0.5:
                self.found += 1
                apart = np.hypot(*(np.array(face.landmarks) - np.array(best.landmarks)).T).mean()
                self.landmarks.append(float(apart / (face.box[2] - face.box[0])))
        alone = [face for face in own if all(iou(face.box, other.box) < 0.5 for other in reference)]
        self.extra += sum(face.size >= SMALLEST for face in alone)

    def __str__(self) -> str:
        apart = np.array(self.landmarks or [0.0])
        return (
            f"found {self.found}/{self.wanted}, extra {self.extra}, "
            f"landmarks {apart.mean():.1%} apart (95 % under {np.quantile(apart, 0.95):.1%})"
        )
