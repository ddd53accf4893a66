"""Report on one video: an HTML page that contains everything it shows."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest
from pathlib import Path

import cv2
from markupsafe import Markup

from torchfakes_cli.facts import CredentialsState, Fact, FileFacts
from torchfakes_cli.records import VideoResult
from torchfakes_cli.report.drawing import FAKE, REAL, Pixels, encoded, heated, reduced
from torchfakes_cli.report.heat_maps import RegionShare, TellingFace
from torchfakes_cli.report.html.plot import draw_timeline, table_rows
from torchfakes_cli.report.html.rendering import again, render
from torchfakes_cli.report.summary import LIMITS, Person, Provenance, Summary, caveats, summarize

#: Largest number of people with their faces, besides all those above the threshold, and in the table below them.
CARDS = 24
_OTHERS = 200

_CREDENTIALS = {
    None: "Not checked: the file couldn't be opened again after the scan.",
    CredentialsState.NOT_LOOKED: "Not checked: pip install 'torchfakes[c2pa]' adds the official library.",
    CredentialsState.UNSUPPORTED: "Not looked for: the library doesn't read this format.",
    CredentialsState.NONE: "The file has none. Most files have none; that says nothing about them.",
    CredentialsState.UNREADABLE: "The file has some, but they can't be read.",
    CredentialsState.INVALID: "They don't hold: the file or they themselves were changed after signing, or the "
    "signature is faulty.",
    CredentialsState.VALID: "Intact: nothing was changed since they were signed. Who signed was not checked against a "
    "list of trusted signers, so the names in them are claims.",
    CredentialsState.TRUSTED: "Intact, and signed by somebody on a list of trusted signers.",
}

#: Side of a face's picture in pixels, which is sharp on a dense screen at the size it is shown.
SIDE = 224
#: Largest total size in bytes of the pictures as text, so that a page stays well under 5 MB.
ROOM = 3_200_000

_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Shown:
    """Face with its pictures as ``data:`` addresses, which are None if the page has no room left for them.

    Attributes:
        face: the face.
        picture: picture of the face.
        heat_fake: its heat map for "fake"; None without one.
        heat_real: its heat map for "real"; None without one.
        frame: the whole frame; None without one.
    """

    face: TellingFace
    picture: str | None = None
    heat_fake: str | None = None
    heat_real: str | None = None
    frame: str | None = None


def page_of(
    result: VideoResult,
    provenance: Provenance,
    *,
    faces: Sequence[TellingFace] = (),
    regions: Sequence[RegionShare] = (),
    file: FileFacts | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the report on one video as an HTML document.

    Args:
        result: result with status ``ok``.
        provenance: provenance of the result.
        faces: representative faces, each person's most suspicious first.
        regions: average shares of their heat maps by region of the face; empty to leave them out.
        file: properties of the file; None if it couldn't be opened again.
        notes: sentences on what is missing among the people, and why.
    """
    summary = summarize(result)
    cards = _cards(summary, faces, max(CARDS, len(result.flagged)))
    others = [person for person in summary.people if person not in [card[0] for card in cards]]
    length, rows = table_rows(result.timeline)
    credentials = file.credentials if file else None
    return render(
        "page.html.j2",
        result=result,
        name=Path(result.path).name,
        summary=summary,
        options=summary.options if provenance.command else "",
        scanned=f"{datetime.fromisoformat(result.scanned_at):%Y-%m-%d %H:%M:%S %Z}" if result.scanned_at else "",
        provenance=provenance,
        caveats=caveats(result, provenance.calibrated_on),
        more_limits=LIMITS[1:],
        # Our own markup, labels included.
        plot=Markup("" if result.is_picture else draw_timeline(result, rows, length)),
        rows=rows,
        stretch="" if not length else f"{length:g} s" if length < 60 else f"{length / 60:g} min",
        cards=cards,
        mapped=any(shown.heat_fake or shown.heat_real for _, faces in cards for shown in faces),
        regions=regions,
        others=others[:_OTHERS],
        others_left=len(others[_OTHERS:]),
        notes=notes,
        file=file,
        file_facts=_file_facts(result, file),
        credentials=credentials,
        credentials_said=_CREDENTIALS[credentials.state if credentials else None],
        again=again(provenance, result.model),
    )


def _cards(summary: Summary, faces: Sequence[TellingFace], most: int) -> list[tuple[Person, list[Shown]]]:
    """Return the people whose faces are given, the most suspicious first, with these faces."""
    by_track: dict[int | None, list[TellingFace]] = {}
    for face in faces:
        by_track.setdefault(face.row.track, []).append(face)
    people = [person for person in summary.people if person.track.number in by_track][:most]
    # Everybody's first face comes before anybody's second: room for pictures may run out.
    order = chain.from_iterable(zip_longest(*(by_track[person.track.number] for person in people)))
    pictures: dict[int | None, list[Shown]] = {}
    for shown in draw_faces(face for face in order if face is not None):
        pictures.setdefault(shown.face.row.track, []).append(shown)
    return [(person, pictures[person.track.number]) for person in people]


def _file_facts(result: VideoResult, file: FileFacts | None) -> list[Fact]:
    facts = [Fact("path", result.path)]
    if file:
        facts += [Fact("size", f"{file.size:,} bytes"), Fact("SHA-256", file.sha256)]
    if info := result.info:
        turned = f"turned by {info.rotation}°" if info.rotation else ""
        facts.append(Fact("shown picture", f"{info.width}×{info.height}", turned))
        if info.fps is not None:
            exact = "" if info.fps.denominator == 1 else f" ({info.fps})"
            facts.append(Fact("rate", f"{float(info.fps):.6g} frames a second{exact}"))
        if info.duration_s is not None:
            counted = "" if info.frame_count is None else f"{info.frame_count} frames, counted"
            facts.append(Fact("length", f"{info.duration_s:.3f} s", counted))
    return facts + list(file.facts if file else ())


def draw_faces(faces: Iterable[TellingFace], room: int = ROOM) -> list[Shown]:
    """Encode the pictures of faces, the most important ones first, until ``room`` bytes of text are used up."""
    shown = []
    for face in faces:
        small = reduced(face.picture, SIDE)
        maps = [(face.heat_fake, FAKE), (face.heat_real, REAL)]
        pictures = [small, *(None if heat is None else heated(small, heat, hue) for heat, hue in maps), face.frame]
        addresses = [None if picture is None else _address(picture) for picture in pictures]
        room -= sum(len(address) for address in addresses if address)
        shown.append(Shown(face, *addresses) if room >= 0 else Shown(face))
    return shown


def _address(picture: Pixels) -> str:
    data = encoded(picture, ".webp", cv2.IMWRITE_WEBP_QUALITY, _QUALITY)
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
