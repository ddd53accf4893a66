"""The report on one video: a page that holds everything it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path

from markupsafe import Markup

from torchfakes_cli.records import (
    Circumstances,
    Credentials,
    CredentialsState,
    Fact,
    FileFacts,
    RegionShare,
    TellingFace,
    Track,
    Verdict,
    VideoInfo,
    VideoResult,
)
from torchfakes_cli.report.files import write_whole
from torchfakes_cli.report.page.doubts import LIMITS, doubts
from torchfakes_cli.report.page.pictures import Shown, draw_faces
from torchfakes_cli.report.page.plot import draw_timeline
from torchfakes_cli.report.page.rendering import render
from torchfakes_cli.report.page.table import table_rows
from torchfakes_cli.report.words import DOUBTED, by_suspicion, deciding, meaning

#: People shown with their faces; …
CARDS = 24
#: … and people in the table below, at most: a timeline as CSV has room for all.
_OTHERS = 200

_CREDENTIALS = {
    CredentialsState.NOT_LOOKED: "Not looked at: pip install 'torchfakes[c2pa]' adds the official library.",
    CredentialsState.UNSUPPORTED: "Not looked for: the library doesn't read this format.",
    CredentialsState.NONE: "The file has none. Most files have none; that says nothing about them.",
    CredentialsState.UNREADABLE: "The file has some, but they can't be read.",
    CredentialsState.INVALID: "They don't hold: the file or they themselves were changed after signing, or the "
    "signature is faulty.",
    CredentialsState.VALID: "Intact: nothing was changed since they were signed. Who signed was not checked against a "
    "list of trusted signers, so the names in them are claims.",
    CredentialsState.TRUSTED: "Intact, and signed by somebody on a list of trusted signers.",
}


@dataclass(frozen=True, slots=True)
class _Person:
    """One card."""

    track: Track
    faces: tuple[Shown, ...]
    standing: str
    tone: str
    decides: bool

    @property
    def mapped(self) -> bool:
        return any(shown.heat_fake or shown.heat_real for shown in self.faces)


def write_page(
    path: str | PathLike[str],
    result: VideoResult,
    circumstances: Circumstances,
    *,
    faces: Sequence[TellingFace] = (),
    regions: Sequence[RegionShare] = (),
    file: FileFacts | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Writes the report on one video, whole or not at all.

    Args:
        path: an existing file is replaced (see ``check_pages``).
        result: with status ``ok``.
        circumstances: under which it came about.
        faces: the most telling ones, each person's most telling first.
        regions: how their heat falls on the regions of a face, on average; empty where that isn't to be shown.
        file: None where the file couldn't be looked at again.
        notes: sentences on what is missing among the people, or why.

    Raises:
        OutputError: it can't be written.
    """
    write_whole(Path(path), page_of(result, circumstances, faces=faces, regions=regions, file=file, notes=notes))


def page_of(
    result: VideoResult,
    circumstances: Circumstances,
    *,
    faces: Sequence[TellingFace] = (),
    regions: Sequence[RegionShare] = (),
    file: FileFacts | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The same as text."""
    people = _people(result, circumstances, faces)
    others = [track for track in by_suspicion(result) if track not in [person.track for person in people]]
    stretch, rows = table_rows(result.timeline)
    credentials = file.credentials if file else None
    return render(
        "page.html.j2",
        result=result,
        name=Path(result.path).name,
        verdict=(result.verdict or Verdict.INCONCLUSIVE).value,
        said=meaning(result, circumstances),
        circumstances=circumstances,
        doubts=doubts(result, circumstances),
        limits=LIMITS[1:],
        doubted=DOUBTED,
        # Of our own making, labels included.
        plot=Markup("" if result.is_picture else draw_timeline(result, circumstances)),
        rows=rows,
        stretch="" if stretch is None else _stretch(stretch),
        people=people,
        mapped=any(person.mapped for person in people),
        regions=regions,
        others=others[:_OTHERS],
        others_left=len(others[_OTHERS:]),
        notes=notes,
        file=file,
        file_missing="The file couldn't be looked at again after the scan.",
        file_facts=_file_facts(result, file),
        credentials=credentials,
        credentials_said=_credentials_said(credentials),
        again=again(circumstances, result.model),
    )


def again(circumstances: Circumstances, model: str) -> list[Fact]:
    """What somebody else needs to get the same, besides the command."""
    fitted = f"fitted on {circumstances.calibrated_on}" if circumstances.calibrated_on else "never calibrated"
    facts = [
        Fact("torchfakes", circumstances.version),
        Fact("model", model),
        Fact("SHA-256 of the model", circumstances.model_sha256 or "not known"),
        Fact(
            "thresholds", f"fake from {circumstances.fake_above:.4f}, real below {circumstances.real_below:.4f}", fitted
        ),
    ]
    return [*facts, *(Fact(name, value) for name, value in circumstances.settings)]


def _people(result: VideoResult, circumstances: Circumstances, faces: Sequence[TellingFace]) -> list[_Person]:
    """The cards: of those who have telling faces, the most suspicious first."""
    by_track: dict[int | None, list[TellingFace]] = {}
    for face in faces:
        by_track.setdefault(face.row.track, []).append(face)
    shown_tracks = [track for track in by_suspicion(result) if track.number in by_track][:CARDS]
    # Everybody's first face comes before anybody's second: room for pictures may run out.
    order = chain.from_iterable(zip_longest(*(by_track[track.number] for track in shown_tracks)))
    pictures: dict[int | None, list[Shown]] = {}
    for shown in draw_faces([face for face in order if face is not None]):
        pictures.setdefault(shown.face.row.track, []).append(shown)
    firm = deciding(result) if result.verdict in (Verdict.FAKE, Verdict.REAL) else None
    return [
        _Person(track, tuple(pictures[track.number]), *_standing(track, circumstances), track.number == firm)
        for track in shown_tracks
    ]


def _standing(track: Track, circumstances: Circumstances) -> tuple[str, str]:
    """What a person's score means, and the tone that goes with it."""
    if not track.lasting or track.p_fake is None:
        return "seen too briefly to decide", "inconclusive"
    if track.doubt:
        return DOUBTED[track.doubt], "inconclusive"
    if track.p_fake >= circumstances.fake_above:
        return "looks synthetic", "fake"
    if track.p_fake < circumstances.real_below:
        return "no clear sign of a synthetic face", "real"
    return "between the thresholds", "inconclusive"


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


def _credentials_said(credentials: Credentials | None) -> str:
    if credentials is None:
        return "Not looked at: the file couldn't be opened again after the scan."
    return _CREDENTIALS[credentials.state]


def _stretch(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"
