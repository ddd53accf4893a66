"""Time spent in each stage of a scan."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Adds up the time of each stage.

    Attributes:
        seconds: of each stage, in order of first use. Decoding and scoring run concurrently: their seconds here are the
            time spent waiting for frames and scores.
        beside: seconds of concurrent work, in order of first use.
        counts: number of items (frames, faces) that a stage processed.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.beside: defaultdict[str, float] = defaultdict(float)
        self.counts: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: str, count: int = 0, *, beside: bool = False) -> Iterator[None]:
        """Count the time of the block for a stage.

        Args:
            name: of the stage.
            count: number of items that the block processes.
            beside: True if the block runs in a thread of its own, beside other stages.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.beside if beside else self.seconds
            seconds[name] += time.perf_counter() - started
            self.counts[name] += count
