"""Faces and their heat maps as pictures that live inside a page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.records import TellingFace

#: Side of a picture in pixels: enough for a sharp one on a dense screen at the size it is shown.
SIDE = 224
#: Bytes that all pictures of a page may take together, as text: with the rest it stays well under 5 MB.
ROOM = 3_200_000

_QUALITY = 82
#: Hues of the two heat maps, RGB: told apart by colour-blind readers, and each map says in words what it is.
_FAKE, _REAL = (213, 94, 0), (0, 114, 178)
#: How much of the hue covers a picture where the heat is highest.
_COVER = 0.75


@dataclass(frozen=True, slots=True)
class Shown:
    """A telling face with its pictures as ``data:`` addresses.

    Attributes:
        face: the record.
        picture: None where the page has no room left for it.
        heat_fake: None where there is no such map, or no room.
        heat_real: likewise.
    """

    face: TellingFace
    picture: str | None = None
    heat_fake: str | None = None
    heat_real: str | None = None


def draw_faces(faces: Iterable[TellingFace], room: int = ROOM) -> list[Shown]:
    """Encodes faces until the room is used up; what comes first is shown.

    Args:
        faces: the most important ones first.
        room: bytes of text that all pictures may take.
    """
    shown = []
    for face in faces:
        small = _resized(face.picture)
        maps = [(face.heat_fake, _FAKE), (face.heat_real, _REAL)]
        addresses = [
            _address(small),
            *(heat if heat is None else _address(heated(small, heat, hue)) for heat, hue in maps),
        ]
        room -= sum(len(address) for address in addresses if address)
        shown.append(Shown(face, *addresses) if room >= 0 else Shown(face))
    return shown


def heated(picture: NDArray[np.uint8], heat: NDArray[np.float32], hue: Sequence[int]) -> NDArray[np.uint8]:
    """A grey picture with heat laid over it in one hue.

    Args:
        picture: H×W×3 uint8 RGB.
        heat: h×w float32 from 0 up, over the whole picture, shown to its own scale; what is no number counts as 0.
        hue: RGB, 0 to 255.
    """
    height, width, _ = picture.shape
    finite = np.nan_to_num(heat.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    strength = finite / max(float(finite.max()), float(np.finfo(np.float32).tiny))
    cover = np.clip(cv2.resize(strength, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)[..., None] * _COVER
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return (grey * (1 - cover) + np.array(hue, np.float32) * cover).round().astype(np.uint8)


def _resized(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = picture.shape
    scale = SIDE / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _address(picture: NDArray[np.uint8]) -> str:
    coded, data = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    if not coded:
        raise ValueError("a picture couldn't be encoded as WebP")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")
