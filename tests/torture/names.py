"""Odd names of sound files: for terminals, spreadsheets, shells, FFmpeg's protocols, patterns and file systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.torture.case import CannotMake, Outcome, add_case, case
from tests.torture.pictures import SMALL
from tests.torture.sources import small_clip

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = "x" * 251 + ".mp4"
NESTED_FOLDERS = 60

_NAMES = (
    "with space.mp4",
    "trailing space .mp4",
    "new\nline.mp4",
    "tab\there.mp4",
    "carriage\rreturn.mp4",
    "unicode_日本語_Ελληνικά.mp4",
    "e\u0301_nfd.mp4",
    "\u00e9_nfc.mp4",
    "-leading-dash.mp4",
    "--help.mp4",
    "-",
    "emoji_😀👩\u200d🚀.mp4",
    "quote'single.mp4",
    'quote"double.mp4',
    "comma,semi;colon.mp4",
    "=cmd()|calc.mp4",
    "=1+1.mp4",
    "+1.mp4",
    "-1+1.mp4",
    "@SUM(A1).mp4",
    "percent%03d.mp4",
    "%s%n.mp4",
    "back\\slash.mp4",
    "dollar$HOME`id`.mp4",
    "$(touch pwned).mp4",
    "[brackets]*?.mp4",
    "{braces}.mp4",
    "ansi_\x1b[31mred\x1b[2J.mp4",
    "bidi_\u202egpj.4pm.mp4",
    "http:evil.mp4",
    "file:evil.mp4",
    "concat:a|b.mp4",
    "pipe:0.mp4",
    "data:text.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    LONGEST,
    ".hidden.mp4",
    "double.ext.mp4.mp4",
    "zero\u200bwidth.mp4",
    "'; DROP TABLE.mp4",
    "#hash.mp4",
    "~tilde.mp4",
    "<b>html&lt;.mp4",
    "con.mp4",
)


def write_small(place: Path) -> None:
    """Writes the small clip under a name that the file system may refuse.

    Raises:
        CannotMake: it does.
    """
    try:
        place.write_bytes(small_clip())
    except (OSError, ValueError) as error:
        raise CannotMake(f"the file system refuses the name: {type(error).__name__}") from error


def portable(name: str) -> bool:
    """Whether Windows takes a name as it stands; of a colon it makes a hidden stream, and con is its console."""
    return not name.startswith("con.") and not any(letter in '<>:"|?*\\' or letter < " " for letter in name)


for _name in _NAMES:
    add_case(f"g_names/{_name}", Outcome.OK, write_small, posix_only=not portable(_name), **SMALL)

add_case(
    "g_names/\udcff\udcfe_not_utf8.mp4",
    Outcome.OK,
    write_small,
    "not UTF-8: no output may raise UnicodeEncodeError",
    posix_only=True,
    **SMALL,
)
add_case("g_names/same/clip.mp4", Outcome.OK, write_small, **SMALL)
add_case("g_names/same2/clip.mp4", Outcome.OK, write_small, "one name in two folders: both rows are needed", **SMALL)


@case("g_names/deep", Outcome.OK, "60 folders one in another", faces=True)
def deep(place: Path) -> None:
    folder = place.joinpath(*["d" * 20] * NESTED_FOLDERS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotMake(f"the file system refuses the depth: {type(error).__name__}") from error
    write_small(folder / "clip.mp4")
