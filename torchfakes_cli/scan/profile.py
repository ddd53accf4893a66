"""Time spent in each stage of a scan."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Accumulated time of each stage.

    Attributes:
        seconds: seconds per stage, in order of first use. Decoding and scoring run concurrently, so that the stages
            here are the waits for frames and scores.
        beside: seconds per concurrent stage, in order of first use.
        counts: number of items (frames, faces) processed per stage.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.beside: defaultdict[str, float] = defaultdict(float)
        self.counts: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: str, count: int = 0, *, beside: bool = False) -> Iterator[None]:
        """Add the time of the block to a stage.

        Args:
            name: name of the stage.
            count: number of items that the block processes.
            beside: True if the block runs in a thread of its own, concurrently with other stages.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.beside if beside else self.seconds
            seconds[name] += time.perf_counter() - started
            self.counts[name] += count
