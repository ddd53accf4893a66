"""One face beside its two heat maps, as a PNG, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchfakes_cli.records import TellingFace

#: Its lightness rises evenly, so that it also reads in grey and to whoever can't tell red from green.
_COLOURS = colormaps["magma"]
_DPI = 110
#: How much of the colour covers the picture where the heat is highest.
_OPACITY = 0.75


def heat_picture(face: TellingFace, *, still: bool = False) -> bytes:
    """Draws a face as the network got it, and on it what speaks for "fake" and for "real".

    Each map goes from nothing to its own highest place: colours of the two, or of two faces, are not to be compared.

    Args:
        face: with heat maps.
        still: it is of a still picture, so that its time tells nothing.

    Returns:
        A PNG file.
    """
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
    if heat is None or not heat.any():
        axes.set_title(f"nothing speaks for \u201c{kind}\u201d")
        axes.imshow(_grey(picture))
        return
    axes.set_title(f"what speaks for \u201c{kind}\u201d")
    axes.imshow(_grey(picture))
    strength = heat / heat.max()
    height, width = picture.shape[:2]
    # The pixels of a smaller or larger map cover the same picture.
    axes.imshow(_COLOURS(strength), alpha=_OPACITY * strength, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Rec. 601, as everywhere a picture becomes grey.
    grey = np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)
