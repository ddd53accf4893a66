"""Where the time of a scan went, stage by stage."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Adds up the seconds of each stage.

    Attributes:
        seconds: of each stage, in the order in which they were first met. Decoding and scoring go on beside the others:
            what counts for them here is the time that was spent waiting for frames and scores.
        beside: seconds of what goes on beside the stages, likewise.
        counts: how many things (frames, faces) a stage dealt with, where it counts.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.beside: defaultdict[str, float] = defaultdict(float)
        self.counts: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: str, count: int = 0, *, beside: bool = False) -> Iterator[None]:
        """The block is of this stage, and deals with so many things.

        Args:
            name: of the stage.
            count: of the things.
            beside: in a thread of its own, while other stages go on.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.beside if beside else self.seconds
            seconds[name] += time.perf_counter() - started
            self.counts[name] += count
