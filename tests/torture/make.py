"""Writes the set, or a part of it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import stat
from typing import TYPE_CHECKING

from tests.torture.case import CATEGORIES, REGISTRY, Canaries, CannotMake, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_log = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"


def all_cases() -> list[Case]:
    """Every case, category by category; nothing is written."""
    for category in CATEGORIES.values():
        importlib.import_module(f"tests.torture.{category}")
    return sorted(REGISTRY.values(), key=lambda case: list(CATEGORIES).index(case.name[0]))


def write_set(
    folder: Path,
    *,
    categories: Collection[str] | None = None,
    only: str | None = None,
    canaries: Canaries | None = None,
    left_out: Callable[[Case, str], None] | None = None,
) -> list[Case]:
    """Writes the files of some cases below a folder, and a manifest of them.

    Args:
        folder: where to; what is there under a case's name is replaced.
        categories: values of ``CATEGORIES``; all by default.
        only: regular expression that is searched for in the names.
        canaries: where files that are obeyed would show it.
        left_out: is told each case that can't be made on this system, and why; a warning is logged by default.

    Returns:
        The cases whose files were written.

    Raises:
        ValueError: a category is unknown.
    """
    if categories is not None and not set(categories) <= set(CATEGORIES.values()):
        raise ValueError(f"unknown categories {sorted(set(categories) - set(CATEGORIES.values()))}")
    canaries = canaries or Canaries()
    written = []
    for case in all_cases():
        if (categories is not None and case.category not in categories) or (only and not re.search(only, case.name)):
            continue
        try:
            write_case(case, folder, canaries)
        except CannotMake as reason:
            (left_out or _warn)(case, str(reason))
        else:
            written.append(case)
    _write_manifest(folder / MANIFEST_NAME, written)
    return written


def write_case(case: Case, folder: Path, canaries: Canaries) -> Path:
    """Writes the file of one case, and returns its path.

    Raises:
        CannotMake: this system can't hold or encode it.
    """
    if case.posix_only and os.name != "posix":
        raise CannotMake("needs a POSIX system")
    if case.needs_non_root and os.geteuid() == 0:
        raise CannotMake("root may read everything")
    place = folder / case.name
    place.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place) and not (place.is_dir() and not place.is_symlink()):
        place.unlink()
    case.write(place, canaries)
    return place


def restore_rights(folder: Path) -> None:
    """Gives back the permissions that cases took away, so that the folder can be deleted."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(parent, name)  # noqa: PTH118 - names may be odd
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.chmod(path, 0o700)  # noqa: PTH101


def printable(name: str) -> str:
    """A case's name as text that any encoding and terminal takes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _warn(case: Case, reason: str) -> None:
    _log.warning("%s is left out: %s", ascii(case.name), reason)


def _write_manifest(path: Path, cases: list[Case]) -> None:
    entries = {printable(case.name): case.to_json() for case in cases}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
