"""Odd, broken and hostile files, and what a scan is expected to make of each.

::

    cases = write_set(folder, categories=["codecs", "timing"])
    for case in cases:
        scan(folder / case.name)  # is expected to end in case.outcome

``python -m tests.torture FOLDER`` writes them for a look. Every byte is generated, by PyAV or by hand, and the
same ones each time; nothing that is written does harm: playlists name 127.0.0.1, payloads only create a marker file.
"""

from tests.torture.case import CATEGORIES, Canaries, CannotMake, Case, Outcome
from tests.torture.make import all_cases, restore_rights, write_case, write_set

__all__ = [
    "CATEGORIES",
    "Canaries",
    "CannotMake",
    "Case",
    "Outcome",
    "all_cases",
    "restore_rights",
    "write_case",
    "write_set",
]
