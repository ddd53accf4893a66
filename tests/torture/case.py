"""What a torture case is, what is expected of it, and the registry that its writer joins.

A category's module registers a writer a file::

    @case("f_empty.mp4", Outcome.ERROR, "0 bytes")
    def empty(place: Path) -> None:
        place.write_bytes(b"")

Files that would betray an obedient reader, by a request or by running their payload, are told where to do so::

    @canary_case("j_playlists/http.m3u8", Outcome.ERROR)
    def remote_segment(place: Path, canaries: Canaries) -> None:
        place.write_text(playlist(f"{canaries.url}/segment.ts"))
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TypedDict, Unpack

#: Letter before the first underscore of a case's name -> category, which is also the name of its module.
CATEGORIES = {
    "a": "codecs",
    "b": "color",
    "c": "geometry",
    "d": "timing",
    "e": "streams",
    "f": "broken",
    "g": "names",
    "h": "content",
    "j": "playlists",
    "k": "bombs",
    "l": "checkpoints",
    "m": "many",
}


class Outcome(StrEnum):
    """What a careful user expects of a scan."""

    #: A verdict is due.
    OK = "ok"
    #: A verdict is due, and a note of what is partial or doubtful about it.
    OK_WARN = "ok_warn"
    #: The scan succeeds and finds no face: never a verdict.
    NO_FACES = "nofaces"
    #: One clean line says why; the rest of a batch goes on.
    ERROR = "error"
    #: Not a candidate: a directory, hidden junk, another kind of file.
    SKIP = "skip"


class CannotMake(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a writer whose file this system can't hold or encode; its text says why."""


@dataclass(frozen=True, slots=True)
class Canaries:
    """Where a file that is obeyed, rather than read, would show it.

    Attributes:
        port: of the HTTP server on 127.0.0.1 that playlists name. Nobody needs to listen there; the UDP port that they
            name is one below.
        marker: start of the paths of the files that payloads would create.
    """

    port: int = 18999
    marker: Path = field(default_factory=lambda: Path(tempfile.gettempdir(), "torchfakes-payload-ran"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def udp_port(self) -> int:
        return self.port - 1

    def payload_mark(self, suffix: str) -> Path:
        """The file that one payload would create."""
        return self.marker.with_name(f"{self.marker.name}_{suffix}")


FrameTime = Callable[[int], float]


class Facts(TypedDict, total=False):
    """The truth about a file, where it is known; the attributes of ``Case`` explain."""

    frames: int | None
    duration_s: float | None
    fps: Fraction | None
    first_time_s: float | None
    frame_time: FrameTime | None
    faces: bool | None
    people: int | None
    size: tuple[int, int] | None
    rotation: int
    posix_only: bool
    needs_non_root: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the set and what is expected of it.

    Attributes:
        name: path below the set's folder with ``/``; bytes that are not UTF-8 are surrogates, as of ``os.fsdecode``.
        outcome: of a scan.
        note: what is odd about the file.
        frames: pictures in it.
        duration_s: length in seconds; of what is there, not of what the header claims.
        fps: frame rate, where it is constant.
        first_time_s: presentation time of the first picture, for the user.
        frame_time: index burnt into a picture (``read_barcode``) -> its presentation time in seconds.
        faces: whether a face is to be found.
        people: how many at once.
        size: (width, height) as displayed.
        rotation: degrees that a player turns the stored pictures.
        posix_only: needs symbolic links, FIFOs, permissions or names that other systems lack.
        needs_non_root: means something only to a user whom permissions bind.
        write: writes the file at its place, whose parent exists.
    """

    name: str
    outcome: Outcome
    note: str
    write: Callable[[Path, Canaries], None] = field(repr=False, compare=False)
    frames: int | None = None
    duration_s: float | None = None
    fps: Fraction | None = None
    first_time_s: float | None = None
    frame_time: FrameTime | None = None
    faces: bool | None = None
    people: int | None = None
    size: tuple[int, int] | None = None
    rotation: int = 0
    posix_only: bool = False
    needs_non_root: bool = False

    @property
    def category(self) -> str:
        return CATEGORIES[self.name[0]]

    def to_json(self) -> dict[str, object]:
        """The case's entry in the manifest: what is known of it."""
        faces = None if self.faces is None else "some" if self.faces else "none"
        entry = {
            "outcome": str(self.outcome),
            "note": self.note or None,
            "frames": self.frames,
            "duration": self.duration_s,
            "fps": None if self.fps is None else float(self.fps),
            "first_time": self.first_time_s,
            "faces": faces,
            "nfaces": self.people,
            "display": self.size,
            "rotation": self.rotation or None,
        }
        return {key: value for key, value in entry.items() if value is not None}


#: Every case by name, in the order of the modules and of the cases in them.
REGISTRY: dict[str, Case] = {}

Writer = Callable[[Path], None]
CanaryWriter = Callable[[Path, Canaries], None]


def add_canary_case(name: str, outcome: Outcome, write: CanaryWriter, note: str = "", **facts: Unpack[Facts]) -> Case:
    """Registers a file that names the canaries.

    Raises:
        ValueError: another case has this name.
    """
    if name in REGISTRY:
        raise ValueError(f"two torture cases are called {name!r}")
    REGISTRY[name] = Case(name, outcome, note, write, **facts)
    return REGISTRY[name]


def add_case(name: str, outcome: Outcome, write: Writer, note: str = "", **facts: Unpack[Facts]) -> Case:
    """Registers a file, for tables of cases; a single one reads better with ``@case``."""

    def write_without(place: Path, _: Canaries) -> None:
        write(place)

    return add_canary_case(name, outcome, write_without, note, **facts)


def case(name: str, outcome: Outcome, note: str = "", **facts: Unpack[Facts]) -> Callable[[Writer], Writer]:
    """Decorates the function that writes one file at the path it is given."""

    def register(write: Writer) -> Writer:
        add_case(name, outcome, write, note, **facts)
        return write

    return register


def canary_case(
    name: str, outcome: Outcome, note: str = "", **facts: Unpack[Facts]
) -> Callable[[CanaryWriter], CanaryWriter]:
    """Decorates the function that writes one file which names the canaries."""

    def register(write: CanaryWriter) -> CanaryWriter:
        add_canary_case(name, outcome, write, note, **facts)
        return write

    return register


def steady(fps: Fraction | int) -> FrameTime:
    """The times of a constant frame rate that starts at 0."""

    def frame_time(index: int) -> float:
        return float(index / Fraction(fps))

    return frame_time
