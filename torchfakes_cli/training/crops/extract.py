"""Cutting the faces out of one original and the fakes made from it.

An original and its fakes are sampled together: at the same times, with the original's boxes, so that a network that
learns from the crops can learn nothing from where they were cut.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.errors import DecodeError, UnreadableFileError
from torchfakes_cli.faces.crops import crop_face, crop_origin, sharpness
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.tracking import FaceTracker
from torchfakes_cli.records import Face, Frame, Point
from torchfakes_cli.training.corpora import SourceVideo
from torchfakes_cli.training.crops.manifest import CropRow
from torchfakes_cli.training.crops.novelty import UNLIKE_ANY, novelties
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig

if TYPE_CHECKING:
    from torchfakes_cli.faces.mtcnn import FaceDetector

#: Frames given to the face detector at once; bounds memory.
DETECTION_BATCH = 8
#: Only the largest faces of a crowd are useful, and memory limits the number of crops.
MOST_FACES = 8
#: A person is kept who is seen in this share of the samples: a false alarm of the face detector doesn't last.
LASTING_SHARE = 0.25
#: A fake whose length differs from its original's by more than this share (and half a second) is other footage.
LENGTH_TOLERANCE = 0.05
#: A fake's face that differs by less than this many grey levels from its original's was not manipulated. On 54 pairs of
#: H.264 clips before and after a face swap, untouched faces differed by 1.8 to 2.5 (two encodings), swapped ones by 5.6
#: to 23.
UNCHANGED_BELOW = 3.5
#: Share of the face's box, about its centre, that is compared: hair and background say nothing.
INNER_SHARE = 0.8

#: Run-length coding of PNG's filtered lines makes crops as small as level 4 does, in two thirds of the time.
_ENCODER_OPTIONS = {
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE],
}

#: What the decoders write about a picture with missing or damaged parts.
_DAMAGE = re.compile(r"Corrupt|Premature end|error", re.IGNORECASE)
_LOG_PREFIX = re.compile(r"^\[.*?\] global \S+ ")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """What decides the pixels of a crop.

    Attributes:
        frames: samples of a video.
        size: crops with a longer side are reduced to it.
        image_format: ``png`` or ``jpg``.
        faces: how faces are found and cut.
    """

    frames: int
    size: int
    image_format: str
    faces: FaceConfig


@dataclass(frozen=True, slots=True)
class Sighting:
    """One face of one sample, cut out.

    Attributes:
        sample: which of the video's samples, from 0.
        time_s: of the frame.
        face: in pixels of the frame.
        track: the person's number.
        crop: S×S×3 uint8 RGB, already reduced.
        square: (left, top, side) of the crop in pixels of the frame.
        sharpness: of the crop before it was reduced.
        novelty: how much it adds to the others of its track.
    """

    sample: int
    time_s: float
    face: Face
    track: int
    crop: Pixels
    square: tuple[int, int, int]
    sharpness: float
    novelty: float = UNLIKE_ANY


@dataclass(frozen=True, slots=True)
class Footage:
    """What was seen in one file.

    Attributes:
        size: (width, height) of its frames.
        duration_s: None where unknown, and for stills.
        frame_numbers: for each sample the number of its frame.
        sightings: the lasting people's, in order of time.
        warnings: of the file and its decoder.
        damaged: samples left out, as the decoder had to make up parts of their pictures.
    """

    size: tuple[int, int]
    duration_s: float | None
    frame_numbers: tuple[int, ...]
    sightings: tuple[Sighting, ...]
    warnings: tuple[str, ...] = ()
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one file gave.

    Attributes:
        rows: of the crops that were written.
        unchanged: faces left out since they are the original's.
    """

    rows: tuple[CropRow, ...]
    unchanged: int = 0


def look_at(video: SourceVideo, config: ExtractConfig, detector: FaceDetector, decoder: IsolatedDecoder) -> Footage:
    """Sample a file evenly and find the people that last.

    Raises:
        MediaError: it can't be read.
    """
    tracker = FaceTracker()
    sightings: list[Sighting] = []
    frames: list[tuple[float, int | None]] = []
    size = (0, 0)
    with _Source(video, decoder) as source:
        for batch in _batched(source.whole(source.samples(config.frames)), DETECTION_BATCH):
            for frame, faces in zip(batch, detector.detect([f.pixels for f in batch]), strict=True):
                largest = faces[:MOST_FACES]
                # Samples lie seconds apart in a long video: to the tracker, each sample is one second.
                tracks = tracker.update(replace(frame, time_s=float(len(frames))), largest)
                for face, track in zip(largest, tracks, strict=True):
                    sightings.append(_sighting(frame, len(frames), face, track, config, video.is_still))
                frames.append((frame.time_s, frame.index))
                size = frame.size
        duration_s, warnings, damaged = source.duration_s, source.warnings, source.damaged
    if not frames and damaged:
        raise DecodeError("all sampled frames are damaged", path=video.path, advice="Copy or download the file again.")
    if not frames:
        raise DecodeError("no frame could be decoded", path=video.path, advice="Check that the file plays.")
    indexes = [index for _, index in frames if index is not None]
    numbers = indexes if len(indexes) == len(frames) == len(set(indexes)) else range(len(frames))
    lasting = tuple(_with_novelty(_lasting(sightings, len(frames), video.is_still)))
    return Footage(size, duration_s, tuple(numbers), lasting, warnings, damaged)


def look_again(
    video: SourceVideo, original: Footage, config: ExtractConfig, decoder: IsolatedDecoder
) -> Footage | None:
    """Cut a fake where its original's faces are.

    Returns:
        None if the fake can't be laid over its original: it is longer or shorter, or the original shows no face.

    Raises:
        MediaError: it can't be read.
    """
    by_sample: dict[int, list[Sighting]] = {}
    for sighting in original.sightings:
        by_sample.setdefault(sighting.sample, []).append(sighting)
    if not by_sample:
        return None
    sightings = []
    size = (0, 0)
    with _Source(video, decoder) as source:
        if not _same_length(source.duration_s, original.duration_s):
            return None
        wanted = [(sample, seen[0].time_s) for sample, seen in sorted(by_sample.items())]
        for (sample, time_s), frame in source.at(wanted):
            if frame.damaged:
                source.damaged += 1
                continue
            size = frame.size
            scale = (size[0] / original.size[0], size[1] / original.size[1])
            for seen in by_sample[sample]:
                face = _scaled(seen.face, scale)
                cut = _sighting(frame, sample, face, seen.track, config, video.is_still)
                # What is thinned is thinned in both: pairs stay pairs.
                sightings.append(replace(cut, time_s=time_s, novelty=seen.novelty))
    return Footage(size, source.duration_s, original.frame_numbers, tuple(sightings), source.warnings, source.damaged)


def changes(fake: Footage, original: Footage) -> dict[tuple[int, int], float]:
    """How far each face of a fake differs from its original's.

    What changed around the face too, as an encoder's shift of brightness does, is taken away first.

    Returns:
        By (sample, track): the mean absolute difference over the inner face, in grey levels.
    """
    originals = {(seen.sample, seen.track): seen for seen in original.sightings}
    found = {}
    for seen in fake.sightings:
        before = originals[seen.sample, seen.track]
        side = before.crop.shape[0]
        after = seen.crop
        if after.shape[0] != side:
            after = cv2.resize(after, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
        difference = _grey(after) - _grey(before.crop)
        x1, y1, x2, y2 = before.face.box
        (x, y), *_ = _in_crop(before, [((x1 + x2) / 2, (y1 + y2) / 2)])
        half = max(x2 - x1, y2 - y1) * side / before.square[2] * INNER_SHARE / 2
        inner = tuple(slice(max(0, round(at - half)), max(1, round(at + half))) for at in (y, x))
        around = np.ones(difference.shape, bool)
        around[inner] = False
        shift = np.median(difference[around]) if around.any() else 0.0
        found[seen.sample, seen.track] = float(np.abs(difference[inner] - shift).mean())
    return found


def write_crops(
    footage: Footage,
    changed: dict[tuple[int, int], float],
    boxes_from: str,
    out: Path,
    folder: str,
    config: ExtractConfig,
) -> Extraction:
    """Write a file's crops into a new folder that appears at once, or not at all.

    Args:
        footage: what was seen.
        changed: differences to the original, by (sample, track), where there is one.
        boxes_from: ``own`` or ``original``.
        out: folder of the manifest.
        folder: of the crops, below ``out``, with ``/``.
        config: format and margin.
    """
    final, partial = out / folder, out / "parts" / f"{Path(folder).name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rows, unchanged = [], 0
    for seen in footage.sightings:
        difference = changed.get((seen.sample, seen.track))
        if difference is not None and difference < UNCHANGED_BELOW:
            unchanged += 1
            continue
        number = footage.frame_numbers[seen.sample]
        name = f"{number:06d}_{seen.track}.{config.image_format}"
        (partial / name).write_bytes(_encoded(seen.crop, config.image_format))
        rows.append(
            CropRow(
                crop=f"{folder}/{name}",
                time_s=seen.time_s,
                frame=number,
                face=seen.track,
                box=seen.face.box,
                confidence=seen.face.confidence,
                sharpness=seen.sharpness,
                novelty=seen.novelty,
                changed=difference,
                boxes_from=boxes_from,
                landmarks=_in_crop(seen, seen.face.landmarks),
            )
        )
    if final.exists():
        shutil.rmtree(final)
    if rows:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(final)
    else:
        partial.rmdir()
    return Extraction(tuple(rows), unchanged)


def crop_folder(video: SourceVideo, split: str) -> str:
    """Where a file's crops go, below the manifest's folder: unique, and valid on every system."""
    return f"{split}/{video.label}/{_safe(video.method)}/{slug(video.video)}"


def slug(name: str) -> str:
    """A file name for a video's name: readable, and unique by a hash of the whole."""
    digest = blake2b(name.encode(errors="surrogateescape"), digest_size=5).hexdigest()
    return f"{_safe(name.rsplit('/', 1)[-1])[:60]}-{digest}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "_"


class _Source:
    """A video, decoded in a process of its own, or a still, read in this one."""

    def __init__(self, video: SourceVideo, decoder: IsolatedDecoder) -> None:
        self._path = video.path
        self.damaged = 0
        self._warnings: tuple[str, ...] = ()
        self._reader = None if video.is_still else decoder.open(video.path)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._reader is not None:
            self._reader.close()

    @property
    def duration_s(self) -> float | None:
        return None if self._reader is None else self._reader.info.duration_s

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._warnings if self._reader is None else (*self._reader.info.warnings, *self._reader.report.warnings)

    def _still(self) -> Frame:
        frame, self._warnings = _read_still(self._path)
        return frame

    def whole(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass on frames that were decoded completely; count the others in ``damaged``."""
        for frame in frames:
            if frame.damaged:
                self.damaged += 1
            else:
                yield frame

    def samples(self, count: int) -> Iterator[Frame]:
        """Frames spread evenly."""
        if self._reader is None:
            return iter((self._still(),))
        # Key frames are sharper than others: no label may have more of them.
        return iter(self._reader.frames(SamplingConfig(frames=count, frames_fixed=True, key_frames=False)))

    def at(self, wanted: Sequence[tuple[int, float]]) -> Iterator[tuple[tuple[int, float], Frame]]:
        """The frames at given (sample, time), where the file has them."""
        if self._reader is None:
            yield wanted[0], self._still()
            return
        tolerance = 1.0 / float(self._reader.info.fps or 10)
        missing = list(wanted)
        for frame in self._reader.frames_at([time_s for _, time_s in wanted]):
            nearest = min(missing, key=lambda sample: abs(sample[1] - frame.time_s))
            if abs(nearest[1] - frame.time_s) <= tolerance:
                missing.remove(nearest)
                yield nearest, frame


def _read_still(path: Path) -> tuple[Frame, tuple[str, ...]]:
    """Decode a still; the second value warns of damaged parts."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UnreadableFileError(
            error.strerror or "can't be read", path=path, advice="Check the file and its permissions."
        ) from error
    picture = None
    with _stderr_kept() as messages, suppress(cv2.error):
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if picture is None:
        raise UnreadableFileError("is not a picture that can be read", path=path, advice="Check the file.")
    damage = next((_LOG_PREFIX.sub("", line) for line in messages if _DAMAGE.search(line)), "")
    warnings = (f"the picture is damaged ({damage})",) if damage else ()
    return Frame(0.0, 0, np.asarray(picture, np.uint8)), warnings


@contextmanager
def _stderr_kept() -> Iterator[list[str]]:
    """Collect the lines that OpenCV's decoders write to the process's standard error, past Python and OpenCV's log."""
    lines: list[str] = []
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield lines
        return
    with os.fdopen(before), tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(before, 2)
            kept.seek(0)
            lines += kept.read().decode(errors="replace").splitlines()


def _sighting(frame: Frame, sample: int, face: Face, track: int, config: ExtractConfig, still: bool) -> Sighting:
    square = crop_origin(face.box, config.faces.margin)
    if still:
        square = _inside(square, face, frame.size)
        left, top, side = square
        crop = frame.pixels[top : top + side, left : left + side].copy()
    else:
        crop = crop_face(frame.pixels, face.box, config.faces.margin)
    sharp = sharpness(crop)
    if square[2] > config.size:
        crop = cv2.resize(crop, (config.size, config.size), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return Sighting(sample, frame.time_s, face, track, crop, square, sharp)


def _inside(square: tuple[int, int, int], face: Face, size: tuple[int, int]) -> tuple[int, int, int]:
    """The square moved, and if need be shrunk, into a picture.

    Collections of stills are cut tightly: a black border would distinguish them from frames of videos.
    """
    side = min(square[2], *size)
    x1, y1, x2, y2 = face.box
    left, top = (
        min(max(0, round((low + high - side) / 2)), length - side)
        for low, high, length in ((x1, x2, size[0]), (y1, y2, size[1]))
    )
    return left, top, side


def _lasting(sightings: Sequence[Sighting], samples: int, still: bool) -> Sequence[Sighting]:
    """The sightings of people seen long enough; of a still, its largest face.

    Where cuts leave no person in a quarter of the samples, those seen longest stay, if they were seen twice.
    """
    if still:
        return sightings[:1]
    seen = Counter(sighting.track for sighting in sightings)
    longest = max(seen.values(), default=0)
    enough = max(min(math.ceil(samples * LASTING_SHARE), longest), min(2, samples))
    return [sighting for sighting in sightings if seen[sighting.track] >= enough]


def _with_novelty(sightings: Sequence[Sighting]) -> Iterator[Sighting]:
    by_track: dict[int, list[Sighting]] = {}
    for seen in sightings:
        by_track.setdefault(seen.track, []).append(seen)
    values = {track: iter(novelties([seen.crop for seen in track_seen])) for track, track_seen in by_track.items()}
    return (replace(seen, novelty=next(values[seen.track])) for seen in sightings)


def _same_length(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= max(0.5, LENGTH_TOLERANCE * max(one, other))


def _scaled(face: Face, scale: tuple[float, float]) -> Face:
    x1, y1, x2, y2 = face.box
    a, b, c, d, e = ((x * scale[0], y * scale[1]) for x, y in face.landmarks)
    return Face((x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]), face.confidence, (a, b, c, d, e))


def _in_crop(seen: Sighting, points: Iterable[Point]) -> tuple[Point, ...]:
    """Points of the frame in pixels of the crop."""
    left, top, side = seen.square
    scale = seen.crop.shape[0] / side
    return tuple(((x - left) * scale, (y - top) * scale) for x, y in points)


def _grey(crop: Pixels) -> NDArray[np.float32]:
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _encoded(crop: Pixels, image_format: str) -> bytes:
    _, data = cv2.imencode(f".{image_format}", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), _ENCODER_OPTIONS[image_format])
    return data.tobytes()


def _batched(frames: Iterator[Frame], count: int) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch
