"""Jobs: a bounded queue of clips, and results kept for a limited time; for use in the event loop's thread only."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, Field

from torchfakes_cli.serve.config import ServeConfig

#: Number of recent scans from whose durations Retry-After is estimated.
_REMEMBERED = 16


class Problem(BaseModel):
    """Problem document of RFC 9457."""

    type: str = Field(default="about:blank", description="about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599, description="The HTTP status that the problem has, or would have had.")
    detail: str = Field(description="What is wrong with what, and what to do next, in one line.")


class State(StrEnum):
    """State of a job."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Job:
    """Job of one clip, from its upload to its result.

    Attributes:
        path: path of the clip's file.
        id: unguessable identifier.
        name: name of the clip as the client gave it, in printable characters.
        size: size in bytes.
        state: state of the job.
        frames_done: number of frames scanned so far.
        frames_wanted: number of frames to scan; None if unknown.
        created_at: time of the request, in UTC.
        finished_at: time of the result, in UTC; None before it.
        admitted: time of the request on the monotonic clock.
        ended: time of the result on the monotonic clock; None before it.
        document: JSON text of the result; None unless the job is done.
        problem: problem document; None unless the job has failed.
        stopped: True if the result is no longer wanted.
        finished: event that is set with the result.
    """

    path: Path
    id: str
    name: str = ""
    size: int = 0
    state: State = State.RECEIVING
    frames_done: int = 0
    frames_wanted: int | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    admitted: float = field(default_factory=time.monotonic)
    ended: float | None = None
    document: str | None = None
    problem: Problem | None = None
    stopped: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def elapsed_s(self) -> float:
        """Seconds from the request to the result, or until now."""
        return (self.ended or time.monotonic()) - self.admitted


class QueueFullError(Exception):
    """The queue has no free place.

    Attributes:
        retry_s: estimated whole seconds until a place is free.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__()
        self.retry_s = retry_s


class Jobs:
    """Jobs of a server: its queue and its results.

    Args:
        config: limits on waiting clips and kept results.
        folder: folder of the clips.
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
        """Number of clips that are waiting or being uploaded."""
        return sum(job.state in (State.RECEIVING, State.QUEUED) for job in self._all.values())

    def admit(self) -> Job:
        """Create a job for a clip whose upload begins.

        Raises:
            QueueFullError: the queue has no free place.
        """
        # A clip that arrives while the scanner is idle doesn't wait.
        busy = any(job.state is State.RUNNING for job in self._all.values())
        if self.waiting >= self._config.queue + (not busy):
            raise QueueFullError(max(1, math.ceil(sum(self._seconds) / len(self._seconds))))
        job_id = secrets.token_urlsafe(16)
        job = self._all[job_id] = Job(self._folder / job_id, job_id)
        return job

    def enqueue(self, job: Job) -> None:
        """Add a job to the queue once its clip has been received."""
        job.state = State.QUEUED
        self._queue.append(job)
        self._changed.set()

    async def next(self) -> Job | None:
        """Wait for the next job and mark it as running; return None after ``close``."""
        while not self._queue and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._closed:
            return None
        job = self._queue.popleft()
        job.state = State.RUNNING
        return job

    def finish(self, job: Job, outcome: str | Problem, seconds: float = 0.0) -> None:
        """Store the result of a job.

        Args:
            job: job that has ended.
            outcome: JSON text of the result, or a problem document.
            seconds: duration of the scan; 0 if there was none.
        """
        job.ended = time.monotonic()
        job.finished_at = datetime.now(UTC)
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
        """Return the job with this id; None if it is forgotten or its clip hasn't been received."""
        self._forget_old()
        job = self._all.get(job_id)
        return None if job is None or job.state is State.RECEIVING else job

    def place(self, job: Job) -> int | None:
        """Return the number of clips that are scanned before this one; None if it isn't queued."""
        if job.state is not State.QUEUED:
            return None
        return self._queue.index(job) + any(other.state is State.RUNNING for other in self._all.values())

    def forget(self, job: Job) -> None:
        """Remove a job and stop its scan; its clip is deleted unless it is being scanned."""
        self._all.pop(job.id, None)
        job.stopped = True
        if job.state is State.QUEUED:
            self._queue.remove(job)
        if job.state is not State.RUNNING:
            job.path.unlink(missing_ok=True)

    def close(self, why: Problem) -> None:
        """Stop all jobs; waiting ones get the problem document ``why``, and no further job begins."""
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
