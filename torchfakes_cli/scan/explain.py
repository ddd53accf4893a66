"""Explain a verdict: representative faces with Grad-CAM heat maps and shares per facial region.

A scan keeps no pixels. The frames of the chosen faces are therefore decoded again, in an isolated process, and cropped
as in the scan. A face has the score of its row in the timeline and a heat map of its own crop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.faces.crops import crop_corner, crop_face
from torchfakes_cli.faces.regions import REGIONS, face_regions
from torchfakes_cli.files import existing, write_atomically
from torchfakes_cli.records import FaceScore, Frame, VideoResult
from torchfakes_cli.report.drawing import boxed_frame, encoded, reduced
from torchfakes_cli.report.heat_maps import Explanation, RegionShare, TellingFace
from torchfakes_cli.report.summary import by_suspicion
from torchfakes_cli.scan.config import FACES_A_TRACK, MOST_TRACKS, ScanConfig
from torchfakes_cli.scan.scanner import Progress, Scanner

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.video.isolation.client import IsolatedDecoder

#: Longest side in pixels of a face's picture.
PICTURE_SIDE = 512

_JPEG_QUALITY = 95
_ELSEWHERE = "Choose another folder with --frames-dir, or replace it with --force."

#: Maps a crop (H×W×3 uint8 RGB) to heat maps of the evidence for "fake" and for "real", S×S float32 each.
HeatMaps = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def explain_video(
    path: str | PathLike[str],
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    faces_a_track: int = FACES_A_TRACK,
    most_tracks: int = MOST_TRACKS,
    progress: Progress | None = None,
    scanner: Scanner | None = None,
) -> Explanation:
    """Scan one video and explain its verdict.

    Args:
        path: path of the video.
        config: configuration of the scan; None for the defaults.
        model: path of a checkpoint, or name of one in the models folder; None for the shipped one.
        faces_a_track: largest number of faces shown per person.
        most_tracks: largest number of people shown.
        progress: called after each batch of frames with (frames done, frames wanted if known).
        scanner: scanner to use, with its own configuration and model; it isn't closed.

    Returns:
        Result of the scan with its representative faces; the result alone if no face was scored.

    Raises:
        TorchfakesError: the errors that ``scan_video`` raises.

    Example::

        explanation = explain_video("clip.mp4")
        for region in explanation.average:
            print(region.region, region.fake, region.area)
    """
    with nullcontext(scanner) if scanner else Scanner(config, model=model) as scanner:
        result = scanner.scan(path, progress)
        rows = representative_rows(result, faces_a_track=faces_a_track, most_tracks=most_tracks)
        if not rows:
            return Explanation(result)
        from torchfakes_cli.detector.gradcam import load_gradcam

        heat_maps = load_gradcam(scanner.checkpoint, scanner.detector.device)
        with scanner.lent_decoder() as decoder:
            faces = cut_faces(result, rows, decoder, scanner.detector, heat_maps=heat_maps)
        regions = tuple(region_shares(face) for face in faces)
        return Explanation(result, faces, regions, average_over_tracks(faces, regions))


def representative_rows(
    result: VideoResult, *, faces_a_track: int = FACES_A_TRACK, most_tracks: int = MOST_TRACKS
) -> tuple[FaceScore, ...]:
    """Choose the representative faces of a result.

    By default these are, for each person, the most suspicious face, the least suspicious face, and a face whose score
    is close to the person's score. They are spread over the time in which the person is visible if possible, because
    neighboring frames look alike.

    Args:
        result: result of a scan.
        faces_a_track: largest number of faces per person. With 1 it is the most suspicious face; with 2 also the one
            closest to the person's score; beyond 3 the next most suspicious faces are added.
        most_tracks: largest number of people. People who can decide a verdict come first, the most suspicious first.

    Returns:
        Rows of the timeline that have a score, person by person, each with the most suspicious face first.

    Raises:
        UsageError: a limit is below 1.
    """
    if min(faces_a_track, most_tracks) < 1:
        raise UsageError("at least one face of one person must be shown")
    rows: list[FaceScore] = []
    for track in [track for track in by_suspicion(result) if track.logit is not None][:most_tracks]:
        scored = [row for row in result.timeline if row.track == track.number and row.logit is not None]
        rows += sorted(_spread(scored, track.logit or 0.0, faces_a_track), key=_suspicion, reverse=True)
    return tuple(rows)


def _suspicion(row: FaceScore) -> float:
    return row.logit or 0.0


def _spread(scored: Sequence[FaceScore], own_logit: float, count: int) -> list[FaceScore]:
    """Choose ``count`` rows of one track, in order of precedence."""
    most, least = (lambda row: -_suspicion(row)), _suspicion

    def from_own(row: FaceScore) -> float:
        return abs(_suspicion(row) - own_logit)

    wishes = [most, from_own] if count == 2 else [most, least, from_own]
    wishes += [most] * (count - len(wishes))
    apart_s = (scored[-1].time_s - scored[0].time_s) / (2 * count)
    chosen: list[FaceScore] = []
    for wish in wishes[: min(count, len(scored))]:
        rest = [row for row in scored if row not in chosen]
        apart = [row for row in rest if all(abs(row.time_s - other.time_s) >= apart_s for other in chosen)]
        chosen.append(min(apart or rest, key=wish))
    return chosen


def cut_faces(
    result: VideoResult,
    rows: Sequence[FaceScore],
    decoder: IsolatedDecoder,
    detector: Detector,
    *,
    heat_maps: HeatMaps | None = None,
    picture_side: int = PICTURE_SIDE,
    frame_side: int = 0,
) -> tuple[TellingFace, ...]:
    """Cut the faces of rows out of a video again, as its scan did, without those in frames that are damaged now.

    Pictures are reduced to ``picture_side`` pixels. The first face of each person comes with its whole frame, reduced
    to ``frame_side`` pixels, unless that is 0.

    Raises:
        MediaError: the file can no longer be read.
    """
    faces: dict[int, TellingFace] = {}
    for place, row, frame in _decoded_again(result.path, rows, decoder):
        face = _cut(frame, row, detector, heat_maps, picture_side)
        if frame_side and row.track not in {other.track for other in rows[:place]}:
            face = replace(face, frame=boxed_frame(frame.pixels, row, frame_side))
        faces[place] = face
    return tuple(faces[place] for place in sorted(faces))


def _decoded_again(
    path: str, rows: Sequence[FaceScore], decoder: IsolatedDecoder
) -> Iterator[tuple[int, FaceScore, Frame]]:
    """Yield the rows with their indices and frames in order of time, without those of damaged frames."""
    if rows:
        with decoder.open(path) as reader:
            for frame in reader.frames_at(sorted({row.time_s for row in rows})):
                for place, row in enumerate(rows):
                    if row.time_s == frame.time_s and not frame.damaged:
                        yield place, row, frame


def _cut(
    frame: Frame, row: FaceScore, detector: Detector, heat_maps: HeatMaps | None, picture_side: int
) -> TellingFace:
    assert row.face is not None, "a row with a score has a face"
    crop = crop_face(frame.pixels, row.face.box, detector.margin, detector.crop_shape)
    left, top = crop_corner(frame.size, row.face.box, detector.margin, detector.crop_shape)
    heat_fake, heat_real = heat_maps(crop) if heat_maps else (None, None)
    scale = min(1.0, picture_side / max(crop.shape[:2]))
    crop = reduced(crop, picture_side)
    eye_1, eye_2, nose, mouth_1, mouth_2 = [((x - left) * scale, (y - top) * scale) for x, y in row.face.landmarks]
    return TellingFace(row, crop, (eye_1, eye_2, nose, mouth_1, mouth_2), heat_fake, heat_real)


def save_frames(base: Path, result: VideoResult, decoder: IsolatedDecoder, *, force: bool = False) -> list[Path]:
    """Save representative whole frames of each person as JPEG, as decoded, for a reverse image search.

    The file must be unchanged since its scan. The base ``clip`` gives ``clip.person-1-at-002.500s.jpg``.

    Returns:
        Paths of the files, without those whose frame can't be decoded again undamaged.

    Raises:
        MediaError: the file can no longer be read.
        OutputError: a file can't be written, or a file of that name holds something else.
    """
    rows = representative_rows(result, most_tracks=max(1, len(result.tracks)))
    saved: list[Path] = []
    for _, row, frame in _decoded_again(result.path, rows, decoder):
        jpeg = encoded(frame.pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
        when = "" if result.is_picture else f"-at-{row.time_s:07.3f}s"
        saved.append(base.with_name(f"{base.name}.person-{row.track}{when}.jpg"))
        if not force and existing(saved[-1], mode="rb", advice=_ELSEWHERE) not in (None, jpeg):
            raise OutputError("exists and holds something else", path=saved[-1], advice=_ELSEWHERE)
        write_atomically(saved[-1], jpeg)
    return saved


def region_shares(face: TellingFace) -> tuple[RegionShare, ...]:
    """Compute the share of a face's heat map that falls on each region, in the order of ``REGIONS``."""
    assert face.heat_fake is not None
    side = len(face.heat_fake)
    height, width = face.picture.shape[:2]
    places = face_regions((side, side), [(x * side / width, y * side / height) for x, y in face.landmarks]).ravel()

    def shares(heat: NDArray[np.float32] | None) -> list[float | None]:
        if heat is None or not heat.any():
            return [None] * len(REGIONS)
        return list(np.bincount(places, heat.ravel(), len(REGIONS)).tolist())

    area = (np.bincount(places, minlength=len(REGIONS)) / places.size).tolist()
    return tuple(map(RegionShare, REGIONS, area, shares(face.heat_fake), shares(face.heat_real)))


def average_over_tracks(
    faces: Sequence[TellingFace], regions: Sequence[tuple[RegionShare, ...]]
) -> tuple[RegionShare, ...]:
    """Average the shares over each person's faces, then over people, so that all people have equal weight."""
    by_track: dict[int | None, list[tuple[RegionShare, ...]]] = {}
    for face, shares in zip(faces, regions, strict=True):
        by_track.setdefault(face.row.track, []).append(shares)
    return _mean([_mean(several) for several in by_track.values()])


def _mean(several: Sequence[tuple[RegionShare, ...]]) -> tuple[RegionShare, ...]:
    def mean_of(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return tuple(
        RegionShare(
            same[0].region,
            mean_of(share.area for share in same) or 0.0,
            mean_of(share.fake for share in same),
            mean_of(share.real for share in same),
        )
        for same in zip(*several, strict=True)
    )
