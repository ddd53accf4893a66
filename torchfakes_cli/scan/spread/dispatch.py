"""Gives the videos of a batch to workers: a bounded number at once, and again where a worker is lost."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from os import fspath

from torchfakes_cli.errors import WorkerLostError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.batch import failed
from torchfakes_cli.scan.flow import FolderProgress
from torchfakes_cli.scan.spread.fleet import Done, Fleet, Lost, News, Ready, Unfit

logger = logging.getLogger(__name__)

#: A video is given up when it was on a worker that was lost for the third time: it may be what ends them.
MOST_LOSSES = 3
#: Workers that end before they are ready, one in place of the other, until the batch is given up.
MOST_FALSE_STARTS = 3
#: So long is waited for the first worker. A cluster may have to start machines for it.
START_S = 900.0

_LOOK_UP_S = 0.2


@dataclass(slots=True)
class _Task:
    """A video that has no result yet."""

    number: int
    path: str
    losses: int = 0


class Dispatch:
    """An ``Executor`` whose work is done by a fleet of workers.

    A lost worker is replaced. The videos that it had are scanned again, each alone on a worker, so that one which ends
    workers takes no other with it; the third time it is given up and told as an error.

    Args:
        fleet: of workers that aren't started yet; it is owned from now on.
    """

    in_order = False

    def __init__(self, fleet: Fleet) -> None:
        self.place = fleet.place
        self._fleet = fleet
        self._given: dict[int, dict[int, _Task]] = {}
        self._ready: set[int] = set()
        self._alone: set[int] = set()
        self._false_starts: Counter[int] = Counter()
        self._numbers = 0

    @property
    def ready(self) -> int:
        """Workers that take videos at the moment."""
        return len(self._ready)

    def load(self) -> None:
        """See ``Executor``: starts all workers, and waits for the first."""
        if not self._given:
            for worker in range(self._fleet.size):
                self._start(worker)
        started = time.monotonic()
        while not self._ready:
            for news in self._fleet.wait(_LOOK_UP_S):
                self._take(news)
            if not self._ready and time.monotonic() - started > START_S:
                raise WorkerLostError(
                    f"no worker was ready after {START_S / 60:.0f} minutes",
                    advice="See whether the machines have the cores or cards that were asked for.",
                )

    def scan(self, paths: Iterable[str], progress: FolderProgress | None = None) -> Generator[VideoResult, None, None]:
        """See ``Executor``; ``progress`` isn't called."""
        upcoming = deque(map(fspath, paths))  # a result bears its path as text
        again: deque[_Task] = deque()
        if not upcoming:
            return
        self.load()
        left = len(upcoming)
        try:
            while left:
                self._give(upcoming, again, left)
                for news in self._fleet.wait(_LOOK_UP_S):
                    for result in self._take(news, again):
                        left -= 1
                        yield result
        finally:
            if left:
                self.close()

    def close(self) -> None:
        """See ``Executor``."""
        self._given.clear()
        self._ready.clear()
        self._alone.clear()
        self._fleet.close()

    def _start(self, worker: int) -> None:
        self._given[worker] = {}
        self._fleet.start(worker)

    def _give(self, upcoming: deque[str], again: deque[_Task], left: int) -> None:
        """Fills the workers, each up to its share of what is left, so that all have work to the end."""
        share = min(self._fleet.room, -(-left // self._fleet.size))
        for worker in sorted(self._ready, key=lambda each: len(self._given[each])):
            tasks = self._given[worker]
            if again and not tasks:
                self._alone.add(worker)
                self._hand(worker, again.popleft())
            while upcoming and worker not in self._alone and len(tasks) < share:
                self._numbers += 1
                self._hand(worker, _Task(self._numbers, upcoming.popleft()))

    def _hand(self, worker: int, task: _Task) -> None:
        self._given[worker][task.number] = task
        self._fleet.give(worker, task.number, task.path)

    def _take(self, news: News, again: deque[_Task] | None = None) -> list[VideoResult]:
        """What follows from news: results, if any."""
        worker = news.worker
        if isinstance(news, Ready):
            self._ready.add(worker)
            self._false_starts.pop(worker, None)
        elif isinstance(news, Unfit):
            raise news.error
        elif isinstance(news, Done):
            task = self._given[worker].pop(news.task)
            self._alone.discard(worker)
            # The worker may know the file under another path, and is not the one whom a user knows.
            return [replace(news.result, path=task.path)]
        else:
            return self._replace(news, again)
        return []

    def _replace(self, news: Lost, again: deque[_Task] | None) -> list[VideoResult]:
        worker = news.worker
        logger.debug("worker %d: %s", worker, news.reason)
        tasks = list(self._given[worker].values())
        self._alone.discard(worker)
        if worker in self._ready:
            self._ready.remove(worker)
        else:
            self._false_starts[worker] += 1
            if self._false_starts[worker] == MOST_FALSE_STARTS:
                raise WorkerLostError(
                    f"a worker ended {MOST_FALSE_STARTS} times before it was ready: {news.reason}",
                    advice="Run it with --debug to see why.",
                )
        results = []
        for task in tasks:
            task.losses += 1
            if task.losses < MOST_LOSSES and again is not None:
                again.append(task)
                continue
            results.append(
                failed(
                    task.path,
                    WorkerLostError(
                        f"the worker that scanned it was lost {task.losses} times: {news.reason}",
                        advice="Memory may have run out; scan it alone to see.",
                    ),
                )
            )
        self._start(worker)
        return results
