"""A folder of many clips, for tests of interruption and resuming."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.torture.case import Outcome, case
from tests.torture.sources import small_clip

if TYPE_CHECKING:
    from pathlib import Path


def write_many(folder: Path, count: int) -> list[Path]:
    """Fills a folder with the small clip again and again: one file under many names, or copies where it can't be."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"clip_{number:03d}.mp4" for number in range(count)]
    for place in places:
        place.unlink(missing_ok=True)
        try:
            place.hardlink_to(places[0])
        except OSError:
            place.write_bytes(small_clip())
    return places


@case("m_many", Outcome.OK, "300 names of one 2 s clip", faces=True)
def many(place: Path) -> None:
    write_many(place, 300)
