"""Measures whole processes."""

from __future__ import annotations

import sys

from tests.usage import Usage, usage_of


def run(*command: str) -> Usage:
    """Runs ``python -m`` with this command to its end."""
    return usage_of([sys.executable, "-m", *command])


def fastest(times: int, *command: str) -> Usage:
    """The fastest of several runs: what else the machine does only adds."""
    return min((run(*command) for _ in range(times)), key=lambda each: each.wall_s)
