"""The report on one video: an HTML page that holds everything it shows."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from torchfakes_cli.files import write_atomically
from torchfakes_cli.records import (
    CredentialsState,
    FaceScore,
    Fact,
    FileFacts,
    Provenance,
    RegionShare,
    TellingFace,
    VideoInfo,
    VideoResult,
)
from torchfakes_cli.report.html.plot import draw_timeline
from torchfakes_cli.report.html.rendering import render
from torchfakes_cli.report.summary import LIMITS, Person, Summary, caveats, note_words, summarise

#: People shown with their faces; …
CARDS = 24
#: … and people in the table below, at most: a timeline as CSV has room for all.
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

#: Rows of the table of scores; a longer timeline is gathered in stretches.
MOST_ROWS = 1200
#: Lengths of stretches, in seconds: the first one that makes the table short enough is taken.
_LENGTHS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)

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
    """A face with its pictures as ``data:`` addresses.

    Attributes:
        face: the record.
        picture: None where the page has no room left for it.
        heat_fake: None where there is no such map, or no room.
        heat_real: None where there is no such map, or no room.
    """

    face: TellingFace
    picture: str | None = None
    heat_fake: str | None = None
    heat_real: str | None = None


@dataclass(frozen=True, slots=True)
class _Card:
    """A person with their faces."""

    person: Person
    faces: tuple[Shown, ...]

    @property
    def mapped(self) -> bool:
        return any(shown.heat_fake or shown.heat_real for shown in self.faces)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One person in one stretch of the timeline, or the frames without a face in it.

    Attributes:
        start_s: the stretch's first frame that belongs here.
        end_s: its last one.
        track: None for frames without a face.
        rows: of the timeline that are gathered here.
        scored: how many of them have a score.
        p_fake: the highest of their scores; None where there is none.
        notes: why some have none, each once.
    """

    start_s: float
    end_s: float
    track: int | None
    rows: int
    scored: int
    p_fake: float | None
    notes: tuple[str, ...]


def write_page(
    path: str | PathLike[str],
    result: VideoResult,
    provenance: Provenance,
    *,
    faces: Sequence[TellingFace] = (),
    regions: Sequence[RegionShare] = (),
    file: FileFacts | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report on one video, whole or not at all.

    Args:
        path: an existing file is replaced (see ``check_pages``).
        result: with status ``ok``.
        provenance: of the scan.
        faces: the representative ones, each person's most suspicious first.
        regions: how their heat falls on the regions of a face, on average; empty where that isn't to be shown.
        file: None where the file couldn't be opened again.
        notes: sentences on what is missing among the people, or why.

    Raises:
        OutputError: it can't be written.
    """
    write_atomically(Path(path), page_of(result, provenance, faces=faces, regions=regions, file=file, notes=notes))


def page_of(
    result: VideoResult,
    provenance: Provenance,
    *,
    faces: Sequence[TellingFace] = (),
    regions: Sequence[RegionShare] = (),
    file: FileFacts | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The report on one video as text; arguments as for ``write_page``."""
    summary = summarise(result, provenance)
    cards = _cards(summary, faces)
    shown = [card.person for card in cards]
    others = [person for person in summary.people if person not in shown]
    stretch, rows = table_rows(result.timeline)
    credentials = file.credentials if file else None
    return render(
        "page.html.j2",
        result=result,
        name=Path(result.path).name,
        verdict=summary.verdict.value,
        said=summary.text,
        provenance=provenance,
        caveats=caveats(result, provenance),
        limits=LIMITS[1:],
        # Of our own making, labels included.
        plot=Markup("" if result.is_picture else draw_timeline(result, provenance)),
        rows=rows,
        stretch="" if stretch is None else f"{stretch:g} s" if stretch < 60 else f"{stretch / 60:g} min",
        cards=cards,
        mapped=any(card.mapped for card in cards),
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


def again(provenance: Provenance, model: str) -> list[Fact]:
    """What somebody else needs to get the same, besides the command."""
    fitted = f"fitted on {provenance.calibrated_on}" if provenance.calibrated_on else "never calibrated"
    facts = [
        Fact("torchfakes", provenance.version),
        Fact("model", model),
        Fact("SHA-256 of the model", provenance.model_sha256 or "not known"),
        Fact("thresholds", f"fake from {provenance.fake_above:.4f}, real below {provenance.real_below:.4f}", fitted),
    ]
    return [*facts, *(Fact(name, value) for name, value in provenance.settings)]


def _cards(summary: Summary, faces: Sequence[TellingFace]) -> list[_Card]:
    """The cards of people whose faces are given, the most suspicious first."""
    by_track: dict[int | None, list[TellingFace]] = {}
    for face in faces:
        by_track.setdefault(face.row.track, []).append(face)
    people = [person for person in summary.people if person.track.number in by_track][:CARDS]
    # Everybody's first face comes before anybody's second: room for pictures may run out.
    order = chain.from_iterable(zip_longest(*(by_track[person.track.number] for person in people)))
    pictures: dict[int | None, list[Shown]] = {}
    for shown in draw_faces([face for face in order if face is not None]):
        pictures.setdefault(shown.face.row.track, []).append(shown)
    return [_Card(person, tuple(pictures[person.track.number])) for person in people]


def _file_facts(result: VideoResult, file: FileFacts | None) -> list[Fact]:
    facts = [Fact("path", result.path)]
    if file:
        facts += [Fact("size", f"{file.size:,} bytes"), Fact("SHA-256", file.sha256)]
    if result.info:
        facts += _shown_video(result.info)
    return facts + list(file.facts if file else ())


def _shown_video(info: VideoInfo) -> list[Fact]:
    facts = [
        Fact("shown picture", f"{info.width}×{info.height}", f"turned by {info.rotation}°" if info.rotation else "")
    ]
    if info.fps is not None:
        exact = "" if info.fps.denominator == 1 else f" ({info.fps})"
        facts.append(Fact("rate", f"{float(info.fps):.6g} frames a second{exact}"))
    if info.duration_s is not None:
        counted = "" if info.frame_count is None else f"{info.frame_count} frames, counted"
        facts.append(Fact("length", f"{info.duration_s:.3f} s", counted))
    return facts


def table_rows(timeline: Sequence[FaceScore], most: int = MOST_ROWS) -> tuple[float | None, list[TableRow]]:
    """Seconds that each row of the table summarizes (None if each is one sampled frame), and the rows.

    Where even the longest stretches don't make it short enough, the table ends with the last row that has room.
    """
    if len(timeline) <= most:
        return None, [_gathered([row]) for row in timeline]
    for length in _LENGTHS_S:
        groups: dict[tuple[int, int], list[FaceScore]] = {}
        for row in timeline:
            groups.setdefault((int(row.time_s // length), row.track or 0), []).append(row)
        if len(groups) <= most:
            break
    return length, [_gathered(groups[key]) for key in sorted(groups)[:most]]


def _gathered(rows: Sequence[FaceScore]) -> TableRow:
    scores = [row.p_fake for row in rows if row.p_fake is not None]
    return TableRow(
        start_s=rows[0].time_s,
        end_s=rows[-1].time_s,
        track=rows[0].track,
        rows=len(rows),
        scored=len(scores),
        p_fake=max(scores, default=None),
        notes=tuple(dict.fromkeys(note_words(row.note) for row in rows if row.note)),
    )


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
