"""Extraction of face crops from a video or still, and from the fakes made of it.

An original and its fakes are sampled at the same times and cropped with the original's boxes, so that a network can't
learn anything from the crop positions.
"""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.errors import DecodeError
from torchfakes_cli.faces.crops import crop_face, crop_origin, sharpness
from torchfakes_cli.faces.tracking import FaceTracker
from torchfakes_cli.records import Face, Frame, Point
from torchfakes_cli.training.config import PrepareConfig
from torchfakes_cli.training.corpora.base import SourceVideo
from torchfakes_cli.training.crops.manifest import LANDMARK_COLUMNS
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig

if TYPE_CHECKING:
    from torchfakes_cli.faces.mtcnn import FaceDetector

#: Number of frames passed to the face detector at once; bounds memory.
DETECTION_BATCH = 8
#: Number of largest faces of a frame that are used; bounds memory.
MOST_FACES = 8
#: A person must be seen in this share of the samples, because false alarms of the face detector don't last.
LASTING_SHARE = 0.25
#: A fake whose duration differs from its original's by more than this share (and half a second) is other footage.
LENGTH_TOLERANCE = 0.05
#: A fake's face that differs by less than this many gray levels from its original's was not manipulated. On 54 pairs of
#: H.264 clips before and after a face swap, untouched faces differed by 1.8 to 2.5 (two encodings), swapped ones by 5.6
#: to 23.
UNCHANGED_BELOW = 3.5
#: Central share of the face's box that is compared, without hair and background.
INNER_SHARE = 0.8
#: Side in pixels of the thumbnails that are compared for novelty: small enough to average an encoder's noise away.
THUMBNAIL = 24
#: Novelty of a track's first crop: the largest difference there can be.
MAX_NOVELTY = 255.0

#: Run-length coding of PNG's filtered lines makes crops as small as level 4 does, in two thirds of the time.
_ENCODER_OPTIONS = {
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE],
}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """Crop of one face in one sample."""

    sample: int  # number of the sample, from 0
    time_s: float  # time of the frame in seconds
    face: Face  # face in pixels of the frame
    track: int  # number of the person
    crop: Pixels  # S×S×3 uint8 RGB, already reduced
    square: tuple[int, int, int]  # (left, top, side) of the crop in pixels of the frame
    sharpness: float  # sharpness before the crop was reduced
    novelty: float = MAX_NOVELTY  # novelty among the crops of its track, see ``novelties``

    def in_crop(self, points: Iterable[Point]) -> list[Point]:
        """Convert points of the frame to pixels of the crop."""
        left, top, side = self.square
        scale = self.crop.shape[0] / side
        return [((x - left) * scale, (y - top) * scale) for x, y in points]


@dataclass(frozen=True, slots=True)
class VideoCrops:
    """Crops of one file."""

    size: tuple[int, int]  # (width, height) of the frames
    duration_s: float | None  # duration in seconds; None if unknown, and for stills
    frame_numbers: tuple[int, ...]  # frame number of each sample
    crops: tuple[FaceCrop, ...]  # crops of the lasting people, in order of time
    warnings: tuple[str, ...]  # warnings about the file and its decoding
    damaged: int  # number of samples left out because the decoder concealed errors in them
    # How far each face differs from the original's, by (sample, track); None unless cropped like an original.
    changed: Mapping[tuple[int, int], float] | None = None


def crop_faces(
    video: SourceVideo, config: PrepareConfig, detector: FaceDetector, decoder: IsolatedDecoder
) -> VideoCrops:
    """Sample a file evenly, and crop the people that last.

    Raises:
        MediaError: it can't be read.
    """
    tracker = FaceTracker()
    crops: list[FaceCrop] = []
    indexes: list[int | None] = []
    damaged = 0
    # Key frames are sharper than others: no label may have more of them.
    sampling = SamplingConfig(frames=config.frames_per_video, frames_fixed=True, key_frames=False)
    with decoder.open(video.path) as reader:
        frames = iter(reader.frames(sampling))
        while sampled := list(islice(frames, DETECTION_BATCH)):
            # Of a still there is no other frame, and tolerable damage is common.
            batch = [frame for frame in sampled if video.is_still or not frame.damaged]
            damaged += len(sampled) - len(batch)
            for frame, faces in zip(batch, detector.detect([frame.pixels for frame in batch]), strict=True):
                largest = faces[:MOST_FACES]
                # Samples of a long video are seconds apart; the tracker gets one second per sample.
                tracks = tracker.update(replace(frame, time_s=float(len(indexes))), largest)
                for face, track in zip(largest, tracks, strict=True):
                    crops.append(_crop(frame, len(indexes), face, track, config, video))
                indexes.append(frame.index)
                size = frame.size
        duration_s, warnings = reader.info.duration_s, (*reader.info.warnings, *reader.report.warnings)
    if not indexes:
        cause = "all sampled frames are damaged" if damaged else "no frame could be decoded"
        raise DecodeError(cause, path=video.path, advice="Check that the file plays, or download it again.")
    numbers = [index for index in indexes if index is not None]
    unique = len(set(numbers)) == len(indexes)
    lasting = _with_novelty(_lasting(crops, len(indexes), video))
    return VideoCrops(
        size, duration_s, tuple(numbers if unique else range(len(indexes))), tuple(lasting), warnings, damaged
    )


def crop_like(
    video: SourceVideo, original: VideoCrops, config: PrepareConfig, decoder: IsolatedDecoder
) -> VideoCrops | None:
    """Crop a fake at the faces of its original; None if the original shows none, or the fake has another duration."""
    by_sample: dict[int, list[FaceCrop]] = defaultdict(list)
    for crop in original.crops:
        by_sample[crop.sample].append(crop)
    if not by_sample:
        return None
    originals = {(crop.sample, crop.track): crop for crop in original.crops}
    missing = {sample: there[0].time_s for sample, there in by_sample.items()}
    crops = []
    size, damaged = original.size, 0
    with decoder.open(video.path) as reader:
        if not _same_length(reader.info.duration_s, original.duration_s):
            return None
        tolerance_s = 1.0 / float(reader.info.fps or 10)
        for frame in reader.frames_at(sorted(missing.values())):
            sample = min(missing, key=lambda sample: abs(missing[sample] - frame.time_s))
            if abs(missing[sample] - frame.time_s) > tolerance_s:
                continue
            del missing[sample]
            if frame.damaged and not video.is_still:
                damaged += 1
                continue
            size = frame.size
            scale = (size[0] / original.size[0], size[1] / original.size[1])
            for there in by_sample[sample]:
                crop = _crop(frame, sample, _scaled(there.face, scale), there.track, config, video)
                # What is a duplicate in the original is one in the fake: pairs stay pairs.
                crops.append(replace(crop, time_s=there.time_s, novelty=there.novelty))
        duration_s, warnings = reader.info.duration_s, (*reader.info.warnings, *reader.report.warnings)
    changed = {(crop.sample, crop.track): _difference(crop, originals[crop.sample, crop.track]) for crop in crops}
    return VideoCrops(size, duration_s, original.frame_numbers, tuple(crops), warnings, damaged, changed)


def _difference(fake: FaceCrop, original: FaceCrop) -> float:
    """Return the mean absolute difference over the inner face, in gray levels.

    What changed around the face too, such as an encoder's shift of brightness, is subtracted first.
    """
    side = original.crop.shape[0]
    difference = _gray(cv2.resize(fake.crop, (side, side), interpolation=cv2.INTER_AREA)) - _gray(original.crop)
    x1, y1, x2, y2 = original.face.box
    ((x, y),) = original.in_crop([((x1 + x2) / 2, (y1 + y2) / 2)])
    half = max(x2 - x1, y2 - y1) * side / original.square[2] * INNER_SHARE / 2
    inner = tuple(slice(max(0, round(at - half)), max(1, round(at + half))) for at in (y, x))
    around = np.ones(difference.shape, bool)
    around[inner] = False
    shift = np.median(difference[around]) if around.any() else 0.0
    return float(np.abs(difference[inner] - shift).mean())


def write_crops(crops: VideoCrops, out: Path, folder: str, image_format: str) -> tuple[dict[str, Any], ...]:
    """Write a file's crops into a folder below ``out``, in place of those that an interrupted run has left.

    Faces that don't differ from the original's are left out. Returns for each crop its cells of the manifest by column,
    rounded to what can be measured.
    """
    shutil.rmtree(out / folder, ignore_errors=True)
    rows = []
    for crop in crops.crops:
        difference = None if crops.changed is None else crops.changed[crop.sample, crop.track]
        if difference is not None and difference < UNCHANGED_BELOW:
            continue
        number = crops.frame_numbers[crop.sample]
        name = f"{number:06d}_{crop.track}.{image_format}"
        _, data = cv2.imencode(
            f".{image_format}", cv2.cvtColor(crop.crop, cv2.COLOR_RGB2BGR), _ENCODER_OPTIONS[image_format]
        )
        (out / folder).mkdir(parents=True, exist_ok=True)
        (out / folder / name).write_bytes(data.tobytes())
        x1, y1, x2, y2 = (round(value, 2) for value in crop.face.box)
        landmarks = [round(value, 2) for point in crop.in_crop(crop.face.landmarks) for value in point]
        rows.append(
            {
                "crop": f"{folder}/{name}",
                "time_s": round(crop.time_s, 4),
                "frame": number,
                "face": crop.track,
                **{"x1": x1, "y1": y1, "x2": x2, "y2": y2},
                "face_size": round(min(x2 - x1, y2 - y1), 2),
                "confidence": round(crop.face.confidence, 4),
                "sharpness": round(crop.sharpness, 2),
                "novelty": round(crop.novelty, 2),
                "changed": None if difference is None else round(difference, 3),
                "boxes_from": "own" if crops.changed is None else "original",
                **dict(zip(LANDMARK_COLUMNS, landmarks, strict=True)),
            }
        )
    return tuple(rows)


def crop_folder(video: SourceVideo, split: str) -> str:
    """Return the folder of a file's crops below the manifest's: unique, and valid on every system."""
    return f"{split}/{video.label}/{_safe(video.method)}/{slug(video.video)}"


def slug(name: str) -> str:
    """Return a file name for a video's name: readable, and unique by a hash."""
    digest = blake2b(name.encode(errors="surrogateescape"), digest_size=5).hexdigest()
    return f"{_safe(name.rsplit('/', 1)[-1])[:60]}-{digest}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "_"


def novelties(crops: Sequence[Pixels]) -> list[float]:
    """Measure how much each crop of a track, in order of time, adds to the others, for every threshold at once.

    Crops are taken in the order of a farthest-first traversal (Gonzalez, "Clustering to minimize the maximum
    intercluster distance", 1985): the first one, then always the one that is least like all taken before. Each gets its
    difference to the nearest of these (mean absolute difference of gray thumbnails; 255 for the first one). Crops with
    at least *t* therefore differ from one another by *t* or more, and each of the others differs from one of them by
    less.
    """
    if not crops:
        return []
    side = (THUMBNAIL, THUMBNAIL)
    gray = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    small = np.stack([cv2.resize(crop, side, interpolation=cv2.INTER_AREA).ravel() for crop in gray]).astype(np.float32)
    found, nearest = np.full(len(crops), MAX_NOVELTY), np.full(len(crops), np.inf)
    taken = 0
    for _ in range(len(crops) - 1):
        nearest = np.minimum(nearest, np.abs(small - small[taken]).mean(axis=1))
        nearest[taken] = -1.0  # less than any other from now on
        taken = int(nearest.argmax())
        found[taken] = nearest[taken]
    return [float(value) for value in found]


def _crop(frame: Frame, sample: int, face: Face, track: int, config: PrepareConfig, video: SourceVideo) -> FaceCrop:
    square = crop_origin(face.box, config.faces.margin)
    if video.is_still:
        square = _inside(square, face, frame.size)
        left, top, side = square
        crop = frame.pixels[top : top + side, left : left + side].copy()
    else:
        crop = crop_face(frame.pixels, face.box, config.faces.margin)
    sharp = sharpness(crop)
    if square[2] > config.size:
        crop = cv2.resize(crop, (config.size, config.size), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return FaceCrop(sample, frame.time_s, face, track, crop, square, sharp)


def _inside(square: tuple[int, int, int], face: Face, size: tuple[int, int]) -> tuple[int, int, int]:
    """Move, and if need be shrink, a square into a picture.

    Collections of stills are cut tightly: a black border would distinguish them from frames of videos.
    """
    side = min(square[2], *size)
    x1, y1, x2, y2 = face.box
    left, top = (
        min(max(0, round((low + high - side) / 2)), length - side)
        for low, high, length in ((x1, x2, size[0]), (y1, y2, size[1]))
    )
    return left, top, side


def _lasting(crops: Sequence[FaceCrop], samples: int, video: SourceVideo) -> Sequence[FaceCrop]:
    """Return the crops of people seen long enough; of a still, its largest face.

    If cuts leave no person in a quarter of the samples, those seen longest stay, if they were seen twice.
    """
    if video.is_still:
        return crops[:1]
    seen = Counter(crop.track for crop in crops)
    longest = max(seen.values(), default=0)
    enough = max(min(math.ceil(samples * LASTING_SHARE), longest), min(2, samples))
    return [crop for crop in crops if seen[crop.track] >= enough]


def _with_novelty(crops: Sequence[FaceCrop]) -> list[FaceCrop]:
    by_track: dict[int, list[Pixels]] = defaultdict(list)
    for crop in crops:
        by_track[crop.track].append(crop.crop)
    values = {track: iter(novelties(pictures)) for track, pictures in by_track.items()}
    return [replace(crop, novelty=next(values[crop.track])) for crop in crops]


def _same_length(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= max(0.5, LENGTH_TOLERANCE * max(one, other))


def _scaled(face: Face, scale: tuple[float, float]) -> Face:
    x1, y1, x2, y2 = face.box
    a, b, c, d, e = ((x * scale[0], y * scale[1]) for x, y in face.landmarks)
    return Face((x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]), face.confidence, (a, b, c, d, e))


def _gray(crop: NDArray[Any]) -> NDArray[np.float32]:
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
