"""Explain a verdict: representative faces with Grad-CAM heat maps and shares per facial region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.faces.regions import REGIONS, face_regions
from torchfakes_cli.records import Explanation, RegionShare, TellingFace
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.representative_faces import FACES_A_TRACK, MOST_TRACKS, cut_faces, representative_rows
from torchfakes_cli.scan.scanner import Progress, Scanner


def explain_video(
    path: str | PathLike[str],
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    faces_a_track: int = FACES_A_TRACK,
    most_tracks: int = MOST_TRACKS,
    progress: Progress | None = None,
) -> Explanation:
    """Scan one video and explain its verdict.

    Args:
        path: path of the video.
        config: configuration of the scan; None for the defaults.
        model: path of a checkpoint, or name of one in the models folder; None for the shipped one.
        faces_a_track: largest number of faces shown per person.
        most_tracks: largest number of people shown.
        progress: called after each batch of frames with (frames done, frames wanted if known).

    Returns:
        Result of the scan with its representative faces; the result alone if no face was scored.

    Raises:
        TorchfakesError: the errors that ``scan_video`` raises.

    Example::

        explanation = explain_video("clip.mp4")
        for region in explanation.average:
            print(region.region, region.fake, region.area)
    """
    with Scanner(config, model=model) as scanner:
        return explain_with(
            scanner, path, model=model, faces_a_track=faces_a_track, most_tracks=most_tracks, progress=progress
        )


def explain_with(
    scanner: Scanner,
    path: str | PathLike[str],
    *,
    model: str | PathLike[str] | None,
    faces_a_track: int = FACES_A_TRACK,
    most_tracks: int = MOST_TRACKS,
    progress: Progress | None = None,
) -> Explanation:
    """Scan one video with an existing scanner of the same ``model``, and explain its verdict."""
    result = scanner.scan(path, progress)
    rows = representative_rows(result, faces_a_track=faces_a_track, most_tracks=most_tracks)
    if not rows:
        return Explanation(result)
    from torchfakes_cli.detector.gradcam import load_gradcam

    heat_maps = load_gradcam(model, scanner.detector.device)
    faces = cut_faces(path, result, detector=scanner.detector, config=scanner.config, rows=rows, heat_maps=heat_maps)
    regions = tuple(region_shares(face) for face in faces)
    return Explanation(result, faces, regions, average_over_tracks(faces, regions))


def region_shares(face: TellingFace) -> tuple[RegionShare, ...]:
    """Compute the share of a face's heat map that falls on each region, in the order of ``REGIONS``.

    Args:
        face: representative face that has heat maps.
    """
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
    return tuple(
        RegionShare(
            same[0].region,
            _mean_of(share.area for share in same) or 0.0,
            _mean_of(share.fake for share in same),
            _mean_of(share.real for share in same),
        )
        for same in zip(*several, strict=True)
    )


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
