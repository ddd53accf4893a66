"""Explanation folder: one picture per face, and a table with the shares of heat per facial region."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import check_folder, first_line, unwritable, write_atomically
from torchfakes_cli.records import Explanation, FaceScore, RegionShare, TellingFace
from torchfakes_cli.report.csv import csv_line, number_cell, text_cell
from torchfakes_cli.report.rows import SCORE_DIGITS, TIME_DIGITS
from torchfakes_cli.report.summary import clock

REGION_COLUMNS = (
    "picture",
    "time_s",
    "frame",
    "track",
    "logit",
    "p_fake",
    "region",
    "area_share",
    "fake_share",
    "real_share",
)

_TABLE = "regions.csv"
_PICTURE = re.compile(r"person-\d+(-at-[\d.]+s)?\.png")
#: Layout of the pictures in pixels: side of each part, gap between parts, height of a line of text.
_SIDE, _GAP, _LINE = 384, 16, 36
_ADVICE = "Choose another folder with -o, or let files in it be replaced with --force."


def check_explanation_target(folder: str | PathLike[str], *, force: bool = False) -> None:
    """Check in advance that an explanation can be written.

    A folder with an earlier explanation is used again; one with other files only with ``force``.

    Args:
        folder: folder of the explanation; its parent must exist.
        force: allow any folder.

    Raises:
        OutputError: the folder can't be written, or has other files.
    """
    place = Path(folder)
    if not place.is_dir():
        if os.path.lexists(place):
            raise OutputError("exists and is no folder", path=place, advice="Choose a folder with -o.")
        check_folder(place, advice="Choose a folder for the pictures with -o.")
        return
    check_folder(place / _TABLE, advice="Choose a folder for the pictures with -o.")
    if not force and any(place.iterdir()) and first_line(place / _TABLE) != ",".join(REGION_COLUMNS):
        raise OutputError("exists and holds no explanation of torchfakes", path=place, advice=_ADVICE)


def write_explanation(folder: str | PathLike[str], explanation: Explanation) -> tuple[Path, ...]:
    """Write the pictures, and then ``regions.csv``, which names them.

    Args:
        folder: folder of the explanation, made if it is missing; pictures of an earlier explanation are deleted.
        explanation: explanation with at least one face.

    Returns:
        Paths of the files, with the table last.

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
        lines += (csv_line(_cells(name, face.row, share)) for share in shares)
    write_atomically(place / _TABLE, "".join(lines))
    return (*written, place / _TABLE)


def _remove_pictures(place: Path) -> None:
    for name in set(_pictures_named_in(place / _TABLE)):
        (place / name).unlink(missing_ok=True)


def _pictures_named_in(table: Path) -> Iterator[str]:
    with suppress(FileNotFoundError, UnicodeDecodeError), table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if _PICTURE.fullmatch(row.get("picture") or ""):
                yield row["picture"]


def _cells(picture: str, row: FaceScore, share: RegionShare) -> list[str]:
    times = number_cell(row.time_s, TIME_DIGITS), number_cell(row.frame), number_cell(row.track)
    numbers = [
        number_cell(value, SCORE_DIGITS) for value in (row.logit, row.p_fake, share.area, share.fake, share.real)
    ]
    return [text_cell(picture), *times, *numbers[:2], text_cell(share.region), *numbers[2:]]


def heat_picture(face: TellingFace, *, still: bool = False) -> bytes:
    """Draw the crop of a face beside its heat maps for "fake" and for "real".

    Each map is scaled to its own maximum, so that colors of different maps or faces can't be compared.

    Args:
        face: face with heat maps.
        still: True for a still picture, whose time isn't shown.

    Returns:
        Content of a PNG file.
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
