"""The report on one video: it says what is known, holds all it shows, and takes nothing from a stranger as markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report.pages import FILE, PROVENANCE, crowd
from tests.report.results import FACE, result
from torchfakes_cli.facts import Credentials, CredentialsState, Fact, FileFacts
from torchfakes_cli.records import FaceScore
from torchfakes_cli.report.drawing import heated
from torchfakes_cli.report.heat_maps import TellingFace
from torchfakes_cli.report.html.page import is_ours, page_of
from torchfakes_cli.report.html.plot import table_rows

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}&lt;\u202egpj.exe\x1b[31m'


class Elements(HTMLParser):
    """Every start tag with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def addresses(self) -> list[str]:
        """Everything that a browser might load or that a reader might follow."""
        names = ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
        return [attributes[name] or "" for _, attributes in self.tags for name in names if name in attributes]


def telling(row: FaceScore) -> TellingFace:
    return TellingFace(row, np.full((400, 300, 3), 90, np.uint8), FACE.landmarks)


def test_a_page_tells_the_verdict_its_doubts_the_file_and_how_to_get_the_same() -> None:
    film = result()
    page = page_of(film, PROVENANCE, faces=[telling(film.timeline[0])], file=FILE)
    assert is_ours(page.splitlines()[0])
    text = " ".join(Elements(page).text.split())
    for expected in (
        "Inconclusive",
        "Too few sharp faces of any one person",
        "Inconclusive means undecided: no proof of forgery, and none of authenticity.",
        "A low score is no proof of authenticity.",
        "called 2 of 24 genuine videos fake (false alarms) and 3 of 26 fakes real (misses)",
        "Next: Look for a longer or sharper version, find the source of the clip",
        "scanned on 2026-11-30 10:05:12 UTC",
        "calibrated on 32 validation videos of 19 groups",
        "each video was judged by a calibration fitted without its people",
        "1 of the 2 frames sampled shows a face; 1 of 2 faces were fit to be scored, 1 too blurry",
        "Partial: 2 of 5 frames.",
        "0:00.00, frame 0",
        "sharpness 120",
        "real below 0.45",
        "cd" * 32,
        "ab" * 32,
        "1920×1080",
        "30000/1001",
        "torchfakes scan clip.mp4 --report report.html",
        "The file has none.",
        "blurry",
    ):
        assert expected in text, expected


def test_a_face_is_shown_beside_its_heat_maps() -> None:
    film, faces = crowd(20, 2, faces_each=1)
    page = Elements(page_of(film, PROVENANCE, faces=faces))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures[:3]] == [
        "Face of person 1 at 0:00.00",
        "Where the detector found what speaks for fake, same face",
        "Where the detector found what speaks for real, same face",
    ]
    assert len(pictures) == 6
    plain = page_of(film, PROVENANCE, faces=[replace(face, heat_fake=None, heat_real=None) for face in faces])
    assert plain.count("<img") == 2
    assert "speaks for" not in plain


def test_everybody_above_the_threshold_is_named_and_shown_in_a_whole_frame() -> None:
    film, faces = crowd(60, 30, faces_each=1)
    film = replace(film, fake_above=0.2, real_below=0.1)
    shown = [replace(face, frame=np.full((90, 160, 3), 90, np.uint8)) for face in faces]
    text = page_of(film, PROVENANCE, faces=shown)
    flagged = [track.number for track in film.flagged]
    assert len(flagged) > 24
    alts = [attributes.get("alt") for _, attributes in Elements(text).tags]
    assert all(f"The whole frame with a box around the face of person {number}" in alts for number in flagged)
    assert f"{len(flagged)} people look synthetic to this detector" in text


def test_heat_is_hot_where_it_should_be_and_survives_what_is_no_number() -> None:
    gray = np.full((50, 100, 3), 128, np.uint8)
    heat = np.array([[0.0, 1.0], [np.nan, 0.0]], np.float32)
    drawn = heated(gray, heat, (255, 0, 0)).astype(int)
    redness = drawn[..., 0] - drawn[..., 2]
    assert redness[0, 99] > 150
    assert abs(redness[0, 0]) < 10
    assert abs(redness[49, 0]) < 10


@pytest.mark.slow
def test_an_hour_with_many_people_stays_under_5_megabytes() -> None:
    film, faces = crowd(3600, 60)
    page = page_of(film, PROVENANCE, faces=faces, file=FILE)
    assert len(page.encode()) < 5_000_000
    assert page.count("<article") == 24
    assert "highest of 54 others" in page
    shown = Elements(page)
    # Whoever is on a card has a picture: room runs out for second faces first.
    alts = {str(attributes["alt"]) for tag, attributes in shown.tags if tag == "img"}
    numbers = {int(match[1]) for alt in alts if (match := re.match(r"Face of person (\d+) at", alt))}
    assert numbers == set(range(1, 25))
    assert "Not shown, to keep this page small." in shown.text
    assert sum(tag == "tr" for tag, _ in shown.tags) < 1400


def test_a_long_timeline_is_gathered_in_stretches_that_keep_the_highest_scores() -> None:
    film, _ = crowd(3600, 60)
    stretch, rows = table_rows(film.timeline)
    assert stretch == 5
    assert len(rows) <= 1200
    assert sum(row.rows for row in rows) == 3600
    assert max(row.p_fake or 0 for row in rows) == max(row.p_fake or 0 for row in film.timeline)


def test_names_and_metadata_of_a_stranger_stay_text() -> None:
    film = replace(result(HOSTILE.replace("/", "∕")), model=HOSTILE, warnings=(HOSTILE,))
    facts = (Fact(HOSTILE, HOSTILE, HOSTILE),)
    file = FileFacts(1, "0" * 64, facts, Credentials(CredentialsState.INVALID, facts, (HOSTILE,)))
    provenance = replace(PROVENANCE, command=HOSTILE, calibrated_on=HOSTILE, settings=((HOSTILE, HOSTILE),))
    raw = page_of(film, provenance, file=file, notes=[HOSTILE])
    page = Elements(raw)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") >= 6
    assert "{{ 7*7 }}" in page.text
    assert not set("\u202e\x1b") & set(raw)


def test_bytes_that_are_no_utf_8_are_shown_as_such() -> None:
    assert "caf\\xe9.mp4" in page_of(result("caf\udce9.mp4"), PROVENANCE).encode().decode()


def test_nothing_is_loaded_from_anywhere_and_nothing_may_run() -> None:
    film, faces = crowd(30, 3)
    file = replace(FILE, facts=(Fact("comment", "https://example.org/x.png"),))
    page = Elements(page_of(film, PROVENANCE, faces=faces, file=file))
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    (policy,) = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert not [attributes for _, attributes in page.tags if "style" in attributes]  # the policy would drop them


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (CredentialsState.NOT_LOOKED, "pip install 'torchfakes[c2pa]'"),
        (CredentialsState.VALID, "claims"),
        (CredentialsState.INVALID, "They don't hold"),
    ],
)
def test_credentials_stand_beside_the_verdict(state: CredentialsState, words: str) -> None:
    file = replace(FILE, credentials=Credentials(state, (Fact("signed by", "Somebody"),)))
    text = " ".join(Elements(page_of(result(), PROVENANCE, file=file)).text.split())
    assert words in text
    assert "Somebody" in text
    assert "They stand beside the verdict and don't change it." in text


def test_a_video_without_a_face_has_a_page_as_well() -> None:
    empty = replace(result(), timeline=(FaceScore(0.0, 0, note="no_face"),), tracks=(), p_fake=None, peak_time_s=None)
    text = Elements(page_of(empty, PROVENANCE)).text
    assert "Nobody was seen." in text
    assert "0 of the one frame sampled show a face" in text


def test_a_still_picture_has_a_page_without_time() -> None:
    film = result("photo.jpg")
    assert film.info is not None
    still = replace(film, timeline=film.timeline[:2], info=replace(film.info, picture=True, fps=None, duration_s=None))
    text = " ".join(Elements(page_of(still, PROVENANCE, faces=[telling(film.timeline[0])])).text.split())
    assert "report on one picture" in text
    assert "The picture shows 2 faces; 1 of 2 faces were fit to be scored, 1 too blurry." in text
    assert "A single view of a face tells less than a video" in text
    assert "over time" not in text
    assert "0:00" not in text
