"""Heat maps (Grad-CAM) of representative faces: a picture per face, and the shares of heat per facial region."""

from __future__ import annotations

import csv
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import check_folder, first_line, unwritable, write_atomically
from torchfakes_cli.records import FaceScore, Point, VideoResult
from torchfakes_cli.report.csv import csv_cells, csv_line
from torchfakes_cli.report.formatting import clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REGION_COLUMNS = (
    *("picture", "time_s", "frame", "track", "logit", "p_fake"),
    *("region", "area_share", "fake_share", "real_share"),
)

_TABLE = "regions.csv"
_PICTURE = re.compile(r"person-\d+(-at-[\d.]+s)?\.png")
#: Layout of the pictures in pixels: side of each part, gap between parts, height of a line of text.
_SIDE, _GAP, _LINE = 384, 16, 36


def check_explanation_target(folder: str | PathLike[str], *, force: bool = False) -> None:
    """Check in advance that an explanation can be written to a folder, whose parent must exist.

    A folder with an earlier explanation is used again; one with other files only with ``force``.

    Raises:
        OutputError: the folder can't be written, or has other files.
    """
    place = Path(folder)
    there = place.is_dir()
    if os.path.lexists(place) and not there:
        raise OutputError("exists and is no folder", path=place, advice="Choose a folder with -o.")
    check_folder(place / _TABLE if there else place, advice="Choose a folder for the pictures with -o.")
    if there and not force and any(place.iterdir()) and first_line(place / _TABLE) != ",".join(REGION_COLUMNS):
        advice = "Choose another folder with -o, or let files in it be replaced with --force."
        raise OutputError("exists and holds no explanation of torchfakes", path=place, advice=advice)


@dataclass(frozen=True, slots=True, eq=False)
class TellingFace:
    """Face shown as evidence: the crop that the network scored, and its heat maps.

    Attributes:
        row: row of the face in the timeline, which has a score.
        picture: H×W×3 uint8 RGB, the network's crop of the frame, at its original resolution or reduced; a square,
            unless the detector uses boxes of any shape.
        landmarks: landmarks of the face in pixels of ``picture``.
        heat_fake: S×S float32 map over the whole picture of each place's share of the evidence for "fake"; its sum is
            1, or 0 without such evidence. None if it wasn't requested.
        heat_real: the same map for "real".
        frame: H×W×3 uint8 RGB, the whole frame, reduced, with a box around the face. None if it wasn't requested.
    """

    row: FaceScore
    picture: NDArray[np.uint8]
    landmarks: tuple[Point, Point, Point, Point, Point]
    heat_fake: NDArray[np.float32] | None = None
    heat_real: NDArray[np.float32] | None = None
    frame: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class RegionShare:
    """Share of a heat map that falls on one region of a face.

    Attributes:
        region: one of ``faces.regions.REGIONS``.
        area: share of the region in an even heat map, 0 to 1.
        fake: share of the region in the evidence for "fake", 0 to 1; None without such evidence.
        real: the same share for "real".
    """

    region: str
    area: float
    fake: float | None
    real: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Explanation of a verdict: representative faces with heat maps, and shares per facial region.

    Attributes:
        result: result of the scan.
        faces: faces with heat maps, person by person, each with the most suspicious face first.
        regions: shares per region of each face, in the order of ``faces``.
        average: shares averaged over each person's faces, and then over people; empty without a face.
    """

    result: VideoResult
    faces: tuple[TellingFace, ...] = ()
    regions: tuple[tuple[RegionShare, ...], ...] = ()
    average: tuple[RegionShare, ...] = ()


def write_explanation(folder: str | PathLike[str], explanation: Explanation) -> tuple[Path, ...]:
    """Write the pictures of an explanation, and then ``regions.csv``, which names them; return their paths.

    The folder is made if it is missing; pictures of an earlier explanation are deleted.

    Raises:
        OutputError: a file can't be written.
    """
    place = Path(folder)
    try:
        place.mkdir(exist_ok=True)
        _remove_pictures(place)
    except OSError as error:
        raise unwritable(place, error) from error
    still = explanation.result.is_picture
    written, lines = [], [csv_line(REGION_COLUMNS)]
    for face, shares in zip(explanation.faces, explanation.regions, strict=True):
        when = "" if still else f"-at-{face.row.time_s:07.3f}s"
        name = f"person-{face.row.track}{when}.png"
        write_atomically(place / name, heat_picture(face, still=still))
        written.append(place / name)
        row = face.row
        for share in shares:
            values = (name, row.time_s, row.frame, row.track, row.logit, row.p_fake)
            cells = csv_cells(REGION_COLUMNS, (*values, share.region, share.area, share.fake, share.real))
            lines.append(csv_line(cells))
    write_atomically(place / _TABLE, "".join(lines))
    return (*written, place / _TABLE)


def _remove_pictures(place: Path) -> None:
    """Delete the pictures that the table of an earlier explanation names."""
    with suppress(FileNotFoundError, UnicodeDecodeError), (place / _TABLE).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if _PICTURE.fullmatch(row.get("picture") or ""):
                (place / row["picture"]).unlink(missing_ok=True)


def heat_picture(face: TellingFace, *, still: bool = False) -> bytes:
    """Draw the crop of a face beside its heat maps for "fake" and for "real" as PNG; the time isn't shown of a still.

    Each map is scaled to its own maximum, so that colors of different maps or faces can't be compared.
    """
    import numpy as np

    from torchfakes_cli.report.drawing import FAKE, INK, REAL, encoded, fitted, heated, write

    sheet = np.full((_SIDE + 3 * _LINE, 3 * _SIDE + 4 * _GAP, 3), 255, np.uint8)
    score = "" if face.row.p_fake is None else f", p_fake {face.row.p_fake:.2f}"
    when = "" if still else f" at {clock(face.row.time_s, 2)}"
    write(sheet, f"person {face.row.track}{when}{score}", (_GAP, _LINE // 4), 24, INK)
    pictures = [("the face as the detector got it", face.picture)]
    for kind, heat, hue in (("fake", face.heat_fake, FAKE), ("real", face.heat_real, REAL)):
        shown = heat is not None and heat.any()
        words = f"{'what' if shown else 'nothing'} speaks for \u201c{kind}\u201d"
        pictures.append((words, heated(face.picture, np.zeros((1, 1), np.float32) if heat is None else heat, hue)))
    for place, (words, picture) in enumerate(pictures):
        x = _GAP + place * (_SIDE + _GAP)
        write(sheet, words, (x, round(1.25 * _LINE)), 20, INK)
        square = fitted(picture, _SIDE)
        sheet[2 * _LINE : 2 * _LINE + square.shape[0], x : x + square.shape[1]] = square
    write(sheet, "Each map has a scale of its own.", (_GAP, _SIDE + round(2.2 * _LINE)), 18, (90, 90, 90))
    return encoded(sheet, ".png")
