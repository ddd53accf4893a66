"""Where the time of a scan went, stage by stage."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Adds up the seconds of each stage.

    Attributes:
        seconds: of each stage, in the order in which they were first met. Decoding goes on beside the others: what
            counts for it is the time that was spent waiting for frames.
        counts: how many things (frames, faces) a stage dealt with, where it counts.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.counts: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: str, count: int = 0) -> Iterator[None]:
        """The block is of this stage, and deals with so many things."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started
            self.counts[name] += count
