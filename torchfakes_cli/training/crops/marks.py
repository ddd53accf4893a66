"""Marks of training groups and pictures: short hashes in a checkpoint that reveal an overlap with later data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Keys of the marks in the header of a checkpoint, in ``training``.
TRAINED_ON, PICTURES = "groups", "pictures"
#: Largest number of marks in a header: those with the smallest hashes stand for all.
MOST_MARKS = 4096
#: Bytes from the middle of a file that are hashed together with its size. In a compressed picture they suffice.
_PROBE = 4096


def picture_marks(folder: Path, crops: Iterable[str]) -> dict[str, str]:
    """Hash the files of crops.

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
    """Count the pictures (by their marks) that a checkpoint, its start or its teacher was trained on.

    ``training`` is that of a header; checkpoints of other programs, and older ones, know no pictures. Of a checkpoint
    with more than ``MOST_MARKS`` training pictures, only a share is recognized.
    """
    known = recorded_marks(training, PICTURES)
    return sum(mark in known for mark in marks)


def group_marks(groups: Iterable[str]) -> set[str]:
    """Return short hashes of the names of groups, because a checkpoint shouldn't list people."""
    return {hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4).hexdigest() for name in set(groups)}


def recorded_marks(record: Any, key: str) -> set[str]:
    """Return the marks in a record of a header, and in the records of the start and the teacher."""
    if not isinstance(record, dict):
        return set()
    marks = record.get(key)
    known = {mark for mark in marks if isinstance(mark, str)} if isinstance(marks, list) else set()
    earlier = (record.get(name) for name in ("start", "teacher"))
    return known.union(*(recorded_marks(each.get("training"), key) for each in earlier if isinstance(each, dict)))
