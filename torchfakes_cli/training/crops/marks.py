"""Marks of training pictures: short hashes in a checkpoint, by which later data that overlap with them are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Key of the marks in the header of a checkpoint, in ``training``.
PICTURES = "pictures"
#: Largest number of marks in a header: those with the smallest hashes stand for all.
MOST_MARKS = 4096
#: Bytes from the middle of a file that are hashed together with its size. In a compressed picture they suffice.
_PROBE = 4096


def picture_marks(folder: Path, crops: Iterable[str]) -> dict[str, str]:
    """Hash the files of crops.

    Args:
        folder: folder of the manifest.
        crops: paths below it.

    Returns:
        Marks by path, for the crops that can be read and aren't empty.
    """
    found = {}
    for crop in crops:
        try:
            with (folder / crop).open("rb") as handle:
                size = handle.seek(0, 2)
                handle.seek(max(0, (size - _PROBE) // 2))
                content = handle.read(_PROBE)
        except OSError:
            continue  # counted when it is drawn
        if size:
            found[crop] = hashlib.blake2b(b"%d:%b" % (size, content), digest_size=6).hexdigest()
    return found


def kept_marks(marks: Iterable[str]) -> list[str]:
    """The marks that a header keeps."""
    return sorted(set(marks))[:MOST_MARKS]


def known_pictures(training: object, marks: Iterable[str]) -> int:
    """Count the pictures that a checkpoint, its start or its teacher was trained on.

    Of a checkpoint with more than ``MOST_MARKS`` training pictures, only a share is recognized.

    Args:
        training: ``training`` of a header; checkpoints of other programs, and older ones, know no pictures.
        marks: marks of the pictures.
    """
    known = _marks_in(training)
    return sum(mark in known for mark in marks)


def _marks_in(training: Any) -> set[str]:
    if not isinstance(training, dict):
        return set()
    marks = training.get(PICTURES)
    known = {mark for mark in marks if isinstance(mark, str)} if isinstance(marks, list) else set()
    for before in ("start", "teacher"):
        if isinstance(earlier := training.get(before), dict):
            known |= _marks_in(earlier.get("training"))
    return known
