"""``python -m tests.torture FOLDER [--only REGEX] [--list]`` writes the set for a look."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.torture.case import CATEGORIES, Canaries, Case
from tests.torture.make import all_cases, write_set


def main() -> None:
    """Writes or lists the cases."""
    defaults = Canaries()
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where to write the files")
    parser.add_argument("--only", metavar="REGEX", help="write only cases whose name matches")
    parser.add_argument("--category", action="append", choices=list(CATEGORIES.values()))
    parser.add_argument("--list", action="store_true", help="list the cases instead")
    parser.add_argument("--port", type=int, default=defaults.port, help="port of 127.0.0.1 that playlists name")
    parser.add_argument("--marker", type=Path, default=defaults.marker, help="start of the files payloads create")
    arguments = parser.parse_args()
    if arguments.list:
        for case in all_cases():
            _say(f"{case.outcome:8} {case.name!a}  {case.note}")
        return
    if arguments.folder is None:
        parser.error("a folder is needed")
    cases = write_set(
        arguments.folder,
        categories=arguments.category,
        only=arguments.only,
        canaries=Canaries(arguments.port, arguments.marker),
        left_out=_say_left_out,
    )
    _say(f"{len(cases)} cases in {arguments.folder}")


def _say_left_out(case: Case, reason: str) -> None:
    _say(f"left out: {case.name!a}: {reason}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
