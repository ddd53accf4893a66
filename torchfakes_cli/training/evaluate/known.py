"""Whom a checkpoint knows already: the groups that it was trained on, and those that its calibration was fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from torchfakes_cli.detector.checkpoint import Header

#: In a checkpoint's ``metrics``: how its calibration was fitted, and on which groups.
RECORD = "calibration"
#: In a checkpoint's ``training``, and in that of the checkpoint it went on from: the marks of its groups.
TRAINED_ON = "groups"


def fitted_groups(header: Header, groups: Iterable[str]) -> int:
    """On how many of these groups, going by their names, a checkpoint's calibration was fitted."""
    return len(group_marks(groups) & _marks_in(header.metrics.get(RECORD)))


def trained_groups(header: Header, groups: Iterable[str]) -> int:
    """On how many of these groups, going by their names, a checkpoint or one before it was trained.

    None of a checkpoint that doesn't tell: those of other programs, and older ones.
    """
    known: set[str] = set()
    training: object = header.training
    while isinstance(training, dict):
        known |= _marks_in(training)
        start = training.get("start")
        training = start.get("training") if isinstance(start, dict) else None
    return len(group_marks(groups) & known)


def group_marks(groups: Iterable[str]) -> set[str]:
    """Short marks of groups' names: a checkpoint shouldn't list people."""
    names = set(groups)
    return {hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4).hexdigest() for name in names}


def _marks_in(record: object) -> set[str]:
    marks = record.get(TRAINED_ON) if isinstance(record, dict) else None
    return {mark for mark in marks if isinstance(mark, str)} if isinstance(marks, list) else set()
