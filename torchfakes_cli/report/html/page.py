"""HTML pages that contain everything they show: the report on one video, and the index of many reports.

Untrusted text is escaped, nothing is loaded from elsewhere, and only our own script may run.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from itertools import chain, zip_longest
from os import PathLike, fsencode
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import cv2
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from torchfakes_cli.facts import Fact, FileFacts
from torchfakes_cli.files import write_atomically
from torchfakes_cli.records import Status, Verdict, VideoResult
from torchfakes_cli.report.columns import BatchRow
from torchfakes_cli.report.drawing import FAKE, REAL, Pixels, encoded, heated, reduced
from torchfakes_cli.report.formatting import clock, safe, score
from torchfakes_cli.report.heat_maps import RegionShare, TellingFace
from torchfakes_cli.report.html.plot import draw_timeline, table_rows
from torchfakes_cli.report.summary import (
    CAVEAT,
    CREDENTIALS,
    LIMITS,
    Person,
    Provenance,
    Summary,
    caveats,
    reason_words,
    summarize,
)
from torchfakes_cli.version import __version__

#: File name of the index in the folder of the reports.
INDEX = "index.html"
#: First line of our pages, which identifies them.
_OPENING = '<!doctype html><html lang="en" data-made-by="torchfakes">'
_PACKAGE = "torchfakes_cli.report.html"

#: Order of the verdicts in the index, those most worth a look first.
_RANKS = {Verdict.FAKE.value: 4, Verdict.INCONCLUSIVE.value: 3, Verdict.REAL.value: 2, Status.ERROR.value: 1}

#: Largest number of people with their faces, besides all those above the threshold, and in the table below them.
_CARDS = 24
_OTHERS = 200
#: Side of a face's picture in pixels, which is sharp on a dense screen at the size it is shown.
_SIDE = 224
#: Largest total size in bytes of the pictures as text, so that a page stays well under 5 MB.
_ROOM = 3_200_000
_QUALITY = 82


def is_ours(first_line: str) -> bool:
    """Return True if a file with this first line is a page of torchfakes."""
    return first_line == _OPENING


class Shown(NamedTuple):
    """Face with its pictures as ``data:`` addresses, None if they are missing or the page has no room."""

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
    cards = _cards(summary, faces, max(_CARDS, len(result.flagged)))
    others = [person for person in summary.people if person not in [card[0] for card in cards]]
    length, rows = table_rows(result.timeline)
    credentials = file.credentials if file else None
    return _render(
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
        credentials_said=CREDENTIALS[credentials.state if credentials else None],
        again=_again(provenance, result.model),
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
    for shown in _drawn(face for face in order if face is not None):
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


def _drawn(faces: Iterable[TellingFace]) -> list[Shown]:
    """Encode the pictures of faces, the most important ones first, until their room is used up."""
    shown, room = [], _ROOM
    for face in faces:
        small = reduced(face.picture, _SIDE)
        maps = [(face.heat_fake, FAKE), (face.heat_real, REAL)]
        pictures = [small, *(None if heat is None else heated(small, heat, hue) for heat, hue in maps), face.frame]
        addresses = [None if picture is None else _data_address(picture) for picture in pictures]
        room -= sum(len(address) for address in addresses if address)
        shown.append(Shown(face, *addresses) if room >= 0 else Shown(face))
    return shown


def _data_address(picture: Pixels) -> str:
    data = encoded(picture, ".webp", cv2.IMWRITE_WEBP_QUALITY, _QUALITY)
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


class IndexRow(NamedTuple):
    """Row of the index: row of the file in a table, address of its report if there is one, and what went wrong."""

    row: BatchRow
    page: str | None
    note: str


def index_row(row: BatchRow, page: Path | None, folder: Path, *, picture: bool = False) -> IndexRow:
    """Return the row of a file or still picture, with the address of its report relative to the folder of the index."""
    address = None
    if page and row.status == Status.OK:
        parts = page.relative_to(folder).parts
        address = "./" + "/".join(quote(fsencode(part), safe="") for part in parts)
    return IndexRow(row, address, row.error or reason_words(row.reason, picture=picture))


def write_index(
    path: str | PathLike[str], rows: Sequence[IndexRow], provenance: Provenance, model: str, *, unfinished: int = 0
) -> None:
    """Write the index atomically; ``unfinished`` is the number of files that an interruption left out.

    Raises:
        OutputError: the page can't be written.
    """
    tally = Counter(entry.row.verdict or entry.row.status for entry in rows)
    files = "1 file" if len(rows) == 1 else f"{len(rows)} files"
    page = _render(
        "index.html.j2",
        script="sort.js",
        rows=rows,
        ranks=_RANKS,
        counts=f"{files}: " + ", ".join(f"{tally[kind]} {kind}" for kind in _RANKS if tally[kind]),
        unfinished=unfinished,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        provenance=provenance,
        again=_again(provenance, model),
    )
    write_atomically(Path(path), page)


def _render(template: str, *, script: str = "", **values: object) -> str:
    """Fill a template.

    Strings are shown on one line, without marks that reorder text, and escaped; only ``Markup`` is inserted unchanged.
    Without the file name of a script no script may run.
    """
    style, code = _text("style.css"), _text(script) if script else ""
    return (
        _environment()
        .get_template(template)
        .render(
            opening=Markup(_OPENING),
            policy=Markup(_policy(style, code)),
            style=Markup(style),
            script=Markup(code),
            version=__version__,
            caveat=CAVEAT,
            limits=LIMITS,
            **values,
        )
    )


def _again(provenance: Provenance, model: str) -> list[Fact]:
    """List what is needed to reproduce a result, besides the command."""
    fitted = f"fitted on {provenance.calibrated_on}" if provenance.calibrated_on else "never calibrated"
    facts = [
        Fact("torchfakes", provenance.version),
        Fact("model", model),
        Fact("SHA-256 of the model", provenance.model_sha256 or "not known"),
        Fact("thresholds", f"fake from {provenance.fake_above:.4f}, real below {provenance.real_below:.4f}", fitted),
    ]
    return [*facts, *(Fact(name, value) for name, value in provenance.settings)]


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows embedded pictures and the given style and script only."""
    rules = ["default-src 'none'", "img-src data:", f"style-src {_source(style)}", "base-uri 'none'"]
    return "; ".join([*rules, "form-action 'none'", *([f"script-src {_source(script)}"] if script else [])])


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _text(name: str) -> str:
    return (files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(score=score, clock=clock, moment=lambda seconds: clock(seconds, 2))
    return environment


def _shown(value: object) -> object:
    """Return a value as the page shows it; nothing for None."""
    if value is None:
        return ""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value
