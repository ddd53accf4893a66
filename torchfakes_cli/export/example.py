"""Example client of an export: finds and scores faces in pictures with NumPy, OpenCV and ONNX Runtime.

Run it in the folder of an export; it reads its parameters from torchfakes.json::

    python example.py PICTURE...

The three networks of the cascade take N×3×H×W and the detector N×3×S×S, float32, RGB from 0 to 255. Boxes are
(x1, y1, x2, y2) in pixels. Method: Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks" (2016), https://arxiv.org/abs/1604.02878.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Facts = Mapping[str, Any]


class Found(NamedTuple):
    """A detected face: box, confidence, and the (x, y) of both eyes, the nose and both corners of the mouth."""

    box: Floats
    confidence: float
    landmarks: Floats


def find_faces(picture: Pixels, networks: Sequence[Any], facts: Facts) -> list[Found]:
    """Detects the faces in a picture.

    Args:
        picture: H×W×3 uint8 RGB, upright.
        networks: sessions of the first, second and third network.
        facts: section ``cascade`` of torchfakes.json.

    Returns:
        The faces, largest first.
    """
    halvings = halved(picture, facts["sides"][0])
    # 1. Find windows in all pyramid levels that score higher than their neighbours.
    boxes = squared(proposed(halvings, networks[0], facts))
    # 2. Drop most of them and refine the boxes of the rest.
    scores, boxes, outputs = judged(halvings, boxes, networks[1], facts, 1)
    kept = suppressed(boxes, scores, facts["overlap"])
    boxes = squared(shifted(boxes[kept], outputs[0][kept]))
    # 3. Make the final decision and locate the landmarks: five x, then five y, as shares of the box.
    scores, boxes, outputs = judged(halvings, boxes, networks[2], facts, 2)
    sides = boxes[:, None, 2:] - boxes[:, None, :2] + 1
    points = outputs[1].reshape(-1, 2, 5).transpose(0, 2, 1) * sides + boxes[:, None, :2] - 1
    boxes = shifted(boxes, outputs[0])
    kept = suppressed(boxes, scores, facts["overlap"], contained=True)
    faces = [Found(boxes[n], float(scores[n]), points[n]) for n in kept if scores[n] >= facts["confidence"]]
    faces = [face for face in faces if shorter_side(face.box) >= facts["smallest"]]
    return sorted(faces, key=lambda face: -shorter_side(face.box))


def halved(picture: Pixels, smallest: int) -> list[Pixels]:
    """Returns the picture and its repeated halvings, down to a shorter side of ``smallest``."""
    halvings = [picture]
    while min(halvings[-1].shape[:2]) >= 2 * smallest:
        height, width = halvings[-1].shape[:2]
        halvings.append(resized(halvings[-1], width // 2, height // 2, cv2.INTER_LINEAR))
    return halvings


def proposed(halvings: list[Pixels], network: Any, facts: Facts) -> Floats:
    """Returns boxes from the first network, which classifies 12-pixel windows at a stride of two in each level."""
    height, width = halvings[0].shape[:2]
    threshold, cell, stride = logit_of(facts["thresholds"][0]), facts["cell"], facts["stride"]
    scale, boxes, level = cell / facts["min_face"], [np.zeros((0, 4), np.float32)], None
    while min(width, height) * scale >= cell:
        w, h = (max(cell, 2 * round(side * scale / 2)) for side in (width, height))
        if level is None:
            larger = [half for half in halvings if half.shape[0] >= h and half.shape[1] >= w]
            level = (larger or halvings[:1])[-1]
        level = resized(level, w, h, cv2.INTER_LINEAR)
        logits, offsets = network.run(None, {"pictures": planes([level])})
        peaks = (logits[0] >= threshold) & (logits[0] >= cv2.dilate(logits[0], np.ones((3, 3), np.uint8)))
        rows, columns = np.nonzero(peaks)
        first = np.stack([columns, rows], 1).astype(np.float32) * stride
        ratio = np.array([width / w, height / h] * 2, np.float32)
        windows = np.floor(np.concatenate([first + 1, first + cell], 1) * ratio)
        boxes.append(shifted(windows, offsets[0][:, rows, columns].T, inclusive=False))
        scale *= facts["factor"]
    return np.concatenate(boxes)


def judged(
    halvings: list[Pixels], boxes: Floats, network: Any, facts: Facts, stage: int
) -> tuple[Floats, Floats, list[Floats]]:
    """Returns probabilities, boxes and other outputs of the candidates that a later network accepts as faces."""
    if not len(boxes):
        return np.zeros(0, np.float32), boxes, [np.zeros((0, 4), np.float32), np.zeros((0, 10), np.float32)]
    crops = [cut(halvings, box, facts["sides"][stage - 1], facts["beyond"]) for box in boxes]
    logits, *outputs = network.run(None, {"pictures": planes(crops)})
    passed = logits > logit_of(facts["thresholds"][stage])
    return 1 / (1 + np.exp(-logits[passed])), boxes[passed], [output[passed] for output in outputs]


def cut(halvings: list[Pixels], box: Floats, side: int, beyond: int) -> Pixels:
    """Crops a box to a square of ``side`` pixels, from the halving in which it is one to two times as large."""
    x1, y1, x2, y2 = box - (1, 1, 0, 0)  # MTCNN counts pixels from one
    number = int(math.log2(max(x2 - x1, y2 - y1, side) / side))
    source = halvings[min(number, len(halvings) - 1)]
    x, y = source.shape[1] / halvings[0].shape[1], source.shape[0] / halvings[0].shape[0]
    steps = (np.arange(side) + 0.5) / side
    # Pixel centres are at integer coordinates.
    columns, rows = np.meshgrid((x1 + steps * (x2 - x1)) * x - 0.5, (y1 + steps * (y2 - y1)) * y - 0.5)
    places = columns.astype(np.float32), rows.astype(np.float32)
    return np.asarray(cv2.remap(source, *places, cv2.INTER_LINEAR, borderValue=(beyond,) * 3), np.uint8)


def shifted(boxes: Floats, offsets: Floats, *, inclusive: bool = True) -> Floats:
    """Moves boxes by offsets in shares of their sides; ``inclusive`` sides, of later networks, are a pixel longer."""
    sides = boxes[:, 2:] - boxes[:, :2] + inclusive
    return np.asarray(boxes + offsets * np.concatenate([sides, sides], 1), np.float32)


def squared(boxes: Floats) -> Floats:
    """Extends the shorter side of each box to the longer one."""
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], 1)


def suppressed(boxes: Floats, scores: Floats, overlap: float, *, contained: bool = False) -> list[int]:
    """Non-maximum suppression: returns the indices of the boxes to keep, best first.

    Args:
        boxes: N×4.
        scores: N.
        overlap: maximum overlap with a better box.
        contained: measure the overlap relative to the smaller box instead of the union.
    """
    extra = int(contained)
    areas = (boxes[:, 2:] - boxes[:, :2] + extra).prod(1)
    kept: list[int] = []
    for place in np.argsort(-scores, kind="stable"):
        ends = np.minimum(boxes[kept, 2:], boxes[place, 2:]) - np.maximum(boxes[kept, :2], boxes[place, :2])
        shared = (ends + extra).clip(min=0).prod(1)
        areas_kept, area = areas[kept], areas[place]
        whole = np.minimum(areas_kept, area) if contained else areas_kept + area - shared
        if (shared <= overlap * whole).all():
            kept.append(int(place))
    return kept


def cut_face(picture: Pixels, box: Floats, facts: Facts) -> Pixels:
    """Crops a face for the detector.

    Args:
        picture: H×W×3 uint8 RGB.
        box: box of the face.
        facts: section ``crop`` of the detector in torchfakes.json.

    Returns:
        S×S×3 uint8, or H×W×3 if the detector was trained on the box itself.
    """
    margin, (height, width), (x1, y1, x2, y2) = facts["margin"], picture.shape[:2], box.tolist()
    if facts["shape"] == "box":  # at least one pixel inside the picture
        more_x, more_y = (x2 - x1) * (margin - 1) / 2, (y2 - y1) * (margin - 1) / 2
        left, top = min(int(max(x1 - more_x, 0)), width - 1), min(int(max(y1 - more_y, 0)), height - 1)
        right, bottom = max(int(min(x2 + more_x, width)), left + 1), max(int(min(y2 + more_y, height)), top + 1)
        return picture[top:bottom, left:right]
    side = max(1, round(max(x2 - x1, y2 - y1) * margin))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    crop = np.full((side, side, 3), facts["beyond"], np.uint8)
    inside = picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    from_top, from_left = max(0, -top), max(0, -left)
    crop[from_top : from_top + inside.shape[0], from_left : from_left + inside.shape[1]] = inside
    return crop


def detector_input(crop: Pixels, size: int) -> Floats:
    """Converts a crop to the detector's input, 1×3×size×size: area-averaged if reduced, bilinear if enlarged."""
    shrinks = max(crop.shape[:2]) > size
    return planes([resized(crop, size, size, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)])


def sharpness(crop: Pixels, size: int) -> float:
    """Returns the variance of the 3×3 Laplacian of the grey crop, resized to ``size`` × ``size`` pixels."""
    grey = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)
    grey = resized(grey, size, size, cv2.INTER_AREA if min(grey.shape) > size else cv2.INTER_LINEAR)
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S, ksize=1))[1][0, 0] ** 2)


def shorter_side(box: Floats) -> float:
    """Returns the shorter side of a box in pixels."""
    return float((box[2:] - box[:2]).min())


def planes(pictures: Sequence[Pixels]) -> Floats:
    """Converts pictures to the files' input: N×3×H×W float32, RGB from 0 to 255."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2), np.float32)


def resized(picture: Pixels, width: int, height: int, interpolation: int) -> Pixels:
    """Resizes a picture, or returns it unchanged if it has the size."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation), np.uint8)


def logit_of(probability: float) -> float:
    """Returns the logit of a probability."""
    return math.log(probability / (1 - probability))


def main(paths: Sequence[str]) -> None:
    """Scores the faces of each picture and prints one line per face."""
    import onnxruntime

    folder = Path(__file__).parent
    facts = json.loads((folder / "torchfakes.json").read_text(encoding="utf-8"))
    detector, cascade = facts["detector"], facts["cascade"]
    networks = [onnxruntime.InferenceSession(str(folder / name)) for name in cascade["files"]]
    session = onnxruntime.InferenceSession(str(folder / detector["file"]))
    for path in paths:
        read = cv2.imread(path, cv2.IMREAD_COLOR_RGB)  # upright, by its Exif orientation
        if read is None:
            sys.exit(f"{path}: can't be read as a picture")
        picture = np.asarray(read, np.uint8)
        for face in find_faces(picture, networks, cascade):
            crop = cut_face(picture, face.box, detector["crop"])
            p_fake = float(session.run(["p_fake"], {"crops": detector_input(crop, detector["input"]["size"])})[0][0])
            verdict = "fake" if p_fake >= detector["fake_above"] else "inconclusive"
            verdict = "real" if p_fake < detector["real_below"] else verdict
            if sharpness(crop, detector["sharpness"]["size"]) < detector["sharpness"]["blurry_below"]:
                verdict = "inconclusive (blurry)"
            box = " ".join(f"{value:.0f}" for value in face.box)
            sys.stdout.write(f"{path}: face at {box}: p_fake {p_fake:.3f}, {verdict}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
