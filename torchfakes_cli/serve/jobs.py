"""Clips on their way: a bounded queue, and results that are kept for a while. Used in the event loop's thread alone."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, Field

from torchfakes_cli.serve.config import ServeConfig

#: Scans whose time tells how long the next one may take.
_REMEMBERED = 16


class Problem(BaseModel):
    """An error as RFC 9457 wants it."""

    type: str = Field(default="about:blank", description="about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599, description="The HTTP status that the problem has, or would have had.")
    detail: str = Field(description="What is wrong with what, and what to do next, in one line.")


class State(StrEnum):
    """How far a job is."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Job:
    """One clip, from its upload to its result.

    Attributes:
        id: nobody can guess it.
        path: of the clip's file.
        name: of the clip, as the client gave it, fit to be shown.
        size: in bytes.
        state: see ``State``.
        frames_done: of the scan.
        frames_wanted: None where not known.
        admitted: when its request came, on the monotonic clock, as all times here.
        ended: when its result was known.
        document: the result's JSON text, if it is done.
        problem: why there is none, if it has failed.
        stopped: nobody wants its result any more.
        finished: set with the result.
    """

    path: Path
    id: str
    name: str = ""
    size: int = 0
    state: State = State.RECEIVING
    frames_done: int = 0
    frames_wanted: int | None = None
    admitted: float = field(default_factory=time.monotonic)
    ended: float | None = None
    document: str | None = None
    problem: Problem | None = None
    stopped: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def elapsed_s(self) -> float:
        """Seconds since its request came, until its result was known."""
        return (self.ended or time.monotonic()) - self.admitted


class QueueFullError(Exception):
    """As many clips wait as may.

    Attributes:
        retry_s: whole seconds after which it may be worth trying again.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__()
        self.retry_s = retry_s


class Jobs:
    """All jobs of a server.

    Args:
        config: how many may wait and be kept.
        folder: for the clips.
    """

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._all: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._seconds: deque[float] = deque([5.0], maxlen=_REMEMBERED)

    @property
    def waiting(self) -> int:
        """Clips that wait or are on their way."""
        return sum(job.state in (State.RECEIVING, State.QUEUED) for job in self._all.values())

    def admit(self) -> Job:
        """A place for a clip that is about to come.

        Raises:
            QueueFullError: there is none.
        """
        # One that comes while the scanner is idle doesn't wait.
        busy = any(job.state is State.RUNNING for job in self._all.values())
        if self.waiting >= self._config.queue + (not busy):
            raise QueueFullError(max(1, math.ceil(sum(self._seconds) / len(self._seconds))))
        job_id = secrets.token_urlsafe(16)
        job = self._all[job_id] = Job(self._folder / job_id, job_id)
        return job

    def enqueue(self, job: Job) -> None:
        """The clip has come."""
        job.state = State.QUEUED
        self._queue.append(job)
        self._changed.set()

    async def next(self) -> Job | None:
        """The job whose turn it is, running from now on; None once there will be no more."""
        while not self._queue and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._closed:
            return None
        job = self._queue.popleft()
        job.state = State.RUNNING
        return job

    def finish(self, job: Job, outcome: str | Problem, seconds: float = 0.0) -> None:
        """The result is known.

        Args:
            job: that has ended.
            outcome: the JSON text, or what went wrong.
            seconds: that the scan took; 0 if there was none.
        """
        job.ended = time.monotonic()
        if isinstance(outcome, str):
            job.state, job.document = State.DONE, outcome
        else:
            job.state, job.problem = State.FAILED, outcome
        if seconds:
            self._seconds.append(seconds)
        job.finished.set()
        self._forget_old()
        asyncio.get_running_loop().call_later(self._config.keep_s + 1, self._forget_old)

    def find(self, job_id: str) -> Job | None:
        """The job of this id, unless it is forgotten, or its clip hasn't come."""
        self._forget_old()
        job = self._all.get(job_id)
        return None if job is None or job.state is State.RECEIVING else job

    def place(self, job: Job) -> int | None:
        """How many clips are scanned before this one; None where it doesn't wait."""
        if job.state is not State.QUEUED:
            return None
        return self._queue.index(job) + any(other.state is State.RUNNING for other in self._all.values())

    def forget(self, job: Job) -> None:
        """Nobody wants it any more: it gets no result if it has none yet, and its clip goes unless it is in use."""
        self._all.pop(job.id, None)
        job.stopped = True
        if job.state is State.QUEUED:
            self._queue.remove(job)
        if job.state is not State.RUNNING:
            job.path.unlink(missing_ok=True)

    def close(self, why: Problem) -> None:
        """Ends everything: no further job begins, and those that wait for a result get none."""
        self._closed = True
        for job in list(self._all.values()):
            job.stopped = True
            if job.state in (State.RECEIVING, State.QUEUED):
                self.finish(job, why)
        self._queue.clear()
        self._changed.set()

    def _forget_old(self) -> None:
        kept = [job for job in self._all.values() if job.ended is not None]
        kept.sort(key=lambda job: job.ended or 0)
        oldest = time.monotonic() - self._config.keep_s
        surplus = len(kept) - self._config.keep_results
        for number, job in enumerate(kept):
            if number < surplus or (job.ended or 0) < oldest:
                del self._all[job.id]
