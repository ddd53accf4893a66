"""Explanation folder: one picture per face, and a table with the shares of heat per facial region."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import OutputError
from torchfakes_cli.files import check_folder, first_line, unwritable, write_atomically
from torchfakes_cli.records import Explanation, FaceScore, RegionShare, TellingFace
from torchfakes_cli.report.csv import csv_line, number_cell, text_cell
from torchfakes_cli.report.rows import SCORE_DIGITS, TIME_DIGITS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

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
#: Colour map with evenly rising lightness, which is readable in grey and with colour blindness.
_COLOURS = "magma"
_DPI = 110
#: Opacity of the colour at the maximum of the heat.
_OPACITY = 0.75
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

    Each map is scaled to its own maximum, so that colours of different maps or faces can't be compared.

    Args:
        face: face with heat maps.
        still: True for a still picture, whose time isn't shown.

    Returns:
        Content of a PNG file.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=_DPI, layout="constrained")
    figure.suptitle(_caption(face, still=still), fontsize=14)
    plain, fake, real = figure.subplots(1, 3)
    plain.imshow(face.picture)
    plain.set_title("the face as the detector got it")
    _draw(fake, face.picture, face.heat_fake, "fake")
    _draw(real, face.picture, face.heat_real, "real")
    for axes in (plain, fake, real):
        axes.set_axis_off()
    scale = figure.colorbar(ScalarMappable(cmap=_COLOURS), ax=[fake, real], ticks=[0, 1], shrink=0.8, pad=0.02)
    scale.ax.set_yticklabels(["none", "most"])
    scale.set_label("each to its own scale")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _caption(face: TellingFace, *, still: bool) -> str:
    minutes, seconds = divmod(face.row.time_s, 60)
    score = "" if face.row.p_fake is None else f", p_fake {face.row.p_fake:.2f}"
    when = "" if still else f" at {int(minutes)}:{seconds:05.2f}"
    return f"person {face.row.track}{when}{score}"


def _draw(axes: Axes, picture: NDArray[np.uint8], heat: NDArray[np.float32] | None, kind: str) -> None:
    from matplotlib import colormaps

    if heat is None or not heat.any():
        axes.set_title(f"nothing speaks for \u201c{kind}\u201d")
        axes.imshow(_grey(picture))
        return
    axes.set_title(f"what speaks for \u201c{kind}\u201d")
    axes.imshow(_grey(picture))
    strength = heat / heat.max()
    height, width = picture.shape[:2]
    # The pixels of a smaller or larger map cover the same picture.
    axes.imshow(
        colormaps[_COLOURS](strength), alpha=_OPACITY * strength, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
    )


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import numpy as np

    # Rec. 601, as everywhere a picture becomes grey.
    grey = np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)
