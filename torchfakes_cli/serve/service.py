"""Scan service: a bounded queue of clips, a scanner in a background thread, and results kept for a limited time."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from os import PathLike
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.exceptions import HTTPException

from torchfakes_cli.errors import StoppedError, TorchfakesError
from torchfakes_cli.records import Verdict
from torchfakes_cli.report import result_to_json
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.serve.documents import failure_of, problem

logger = logging.getLogger(__name__)

#: Number of recent scans from whose durations Retry-After is estimated.
_REMEMBERED = 16
_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class State(StrEnum):
    """State of a job."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


_WAITING = (State.RECEIVING, State.QUEUED)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, eq=False)
class Job:
    """Job of one clip, from its upload to its result.

    Attributes:
        path: path of the clip's file.
        id: unguessable identifier.
        name: name of the clip as the client gave it, in printable characters.
        size: size in bytes.
        stopped: True if the result is no longer wanted.
        result: JSON text of the result, or the ``HTTPException`` of a failed job.
    """

    path: Path
    id: str
    name: str = ""
    size: int = 0
    state: State = State.RECEIVING
    frames_done: int = 0
    frames_wanted: int | None = None
    created_at: datetime = field(default_factory=_now)
    finished_at: datetime | None = None
    stopped: bool = False
    result: asyncio.Future[str] = field(default_factory=asyncio.Future)

    @property
    def elapsed_s(self) -> float:
        """Seconds from the request to the result, or until now."""
        return ((self.finished_at or _now()) - self.created_at).total_seconds()

    def log(self, outcome: str) -> None:
        """Log one line; its fields are attached to the record, too."""
        fields = {"scan_id": self.id, "bytes": self.size, "elapsed_s": round(self.elapsed_s, 3), "outcome": outcome}
        message = "scan %s: %d bytes, %.1f s, %s"
        logger.info(message, self.id, self.size, self.elapsed_s, outcome, extra={"scan": fields})


class Service:
    """Scan service, which scans the clips of its queue from ``run`` to ``stop``.

    For use in the event loop's thread only; the scans themselves run in another one. ``ready`` is True while the
    detector is loaded and the service isn't stopping.

    Args:
        config: limits of the service.
        scan_config: configuration of every scan, except for the greatest length, which ``config`` sets.
        folder: folder of the clips.
        model: path or name of a checkpoint; None for the shipped one.
    """

    def __init__(
        self, config: ServeConfig, scan_config: ScanConfig, folder: Path, model: str | PathLike[str] | None = None
    ) -> None:
        self.config = config
        self.metrics = Metrics(self)
        self.ready = False
        self.stopping = False
        self._scan_config = replace(scan_config, max_length_s=config.max_length_s)
        self._folder = folder
        self._model = model
        self._jobs: dict[str, Job] = {}  # uploads, then the queue in its order, then results in order of their time
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._seconds: deque[float] = deque([5.0], maxlen=_REMEMBERED)

    @property
    def waiting(self) -> int:
        """Number of clips that are waiting or being uploaded."""
        return sum(job.state in _WAITING for job in self._jobs.values())

    def check_ready(self) -> None:
        """Raise an ``HTTPException`` unless the service takes clips."""
        if not self.ready:
            raise _ending() if self.stopping else _unavailable("the detector is being loaded")

    def admit(self) -> Job:
        """Create a job for a clip whose upload begins.

        Raises:
            HTTPException: the service isn't ready, or the queue is full.
        """
        self.check_ready()
        # A clip that arrives while the scanner is idle doesn't wait.
        busy = any(job.state is State.RUNNING for job in self._jobs.values())
        if self.waiting >= self.config.queue + (not busy):
            retry_s = max(1, math.ceil(sum(self._seconds) / len(self._seconds)))
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, "the queue is full", {"Retry-After": str(retry_s)})
        job_id = secrets.token_urlsafe(16)
        job = self._jobs[job_id] = Job(self._folder / job_id, job_id)
        return job

    def enqueue(self, job: Job) -> None:
        """Add a job to the queue once its clip has been received."""
        job.state = State.QUEUED
        self._jobs[job.id] = self._jobs.pop(job.id)
        self._queue.put_nowait(job)

    async def next(self) -> Job | None:
        """Wait for the next job and mark it as running; return None after ``stop``."""
        while (job := await self._queue.get()) and job.stopped:
            pass
        if job:
            job.state = State.RUNNING
        return job

    def finish(self, job: Job, result: str | HTTPException) -> None:
        """Store the result of a job: the JSON text, or the error."""
        job.finished_at = _now()
        if isinstance(result, str):
            job.state = State.DONE
            job.result.set_result(result)
        else:
            job.state = State.FAILED
            job.result.set_exception(result)
            job.result.exception()  # asyncio complains about exceptions that nobody reads
        if self._jobs.pop(job.id, None) is not None:  # otherwise it has been forgotten
            self._jobs[job.id] = job
            asyncio.get_running_loop().call_later(self.config.keep_s, self._jobs.pop, job.id, None)
            kept = [job_id for job_id, job in self._jobs.items() if job.finished_at]
            for job_id in kept[: -self.config.keep_results]:
                del self._jobs[job_id]

    def find(self, job_id: str) -> Job | None:
        """Return the job with this id; None if it is forgotten or its clip hasn't been received."""
        job = self._jobs.get(job_id)
        return None if job is None or job.state is State.RECEIVING else job

    def document(self, job: Job) -> dict[str, Any]:
        """Return the content of a ``JobDocument`` for a job whose clip has been received."""
        queue = [other for other in self._jobs.values() if other.state in (State.QUEUED, State.RUNNING)]
        error = job.result.exception() if job.state is State.FAILED else None
        return {
            "id": job.id,
            "status": job.state.value,
            "ahead": queue.index(job) if job.state is State.QUEUED else None,
            "frames_done": job.frames_done,
            "frames_wanted": job.frames_wanted,
            "created_at": job.created_at.isoformat(timespec="milliseconds"),
            "finished_at": job.finished_at.isoformat(timespec="milliseconds") if job.finished_at else None,
            "elapsed_s": round(job.elapsed_s, 3),
            "result": json.loads(job.result.result()) if job.state is State.DONE else None,
            "error": problem(error) if isinstance(error, HTTPException) else None,
        }

    def forget(self, job: Job) -> None:
        """Remove a job and stop its scan; its clip is deleted unless it is being scanned."""
        if job.state is State.QUEUED:
            job.log("cancelled")
        self._jobs.pop(job.id, None)
        job.stopped = True
        if job.state is not State.RUNNING:
            job.path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop the running scan within about a second, and all waiting jobs; may be called several times."""
        self.stopping = True
        self.ready = False
        for job in list(self._jobs.values()):
            job.stopped = True
            if job.state in _WAITING:
                self.finish(job, _ending())
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Load the detector and scan until the service is stopped; an error of loading is raised."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "scan") as thread:
            scanner = await loop.run_in_executor(thread, lambda: Scanner(self._scan_config, model=self._model))
            try:
                await loop.run_in_executor(thread, scanner.load)
                self.ready = not self.stopping
                while (job := await self.next()) is not None:
                    await self._take(job, scanner, thread)
            finally:
                self.ready = False
                await loop.run_in_executor(thread, scanner.close)

    async def _take(self, job: Job, scanner: Scanner, thread: ThreadPoolExecutor) -> None:
        """Scan a clip, delete it, and store the result."""
        started = time.monotonic()
        verdict: Verdict | None = None
        result: str | HTTPException
        outcome = "failed"
        try:
            deadline = started + self.config.timeout_s
            scan = asyncio.get_running_loop().run_in_executor(thread, self._scan, job, scanner, deadline)
            verdict, result = await scan
            outcome = "done"
        except StoppedError:
            limit = f"the scan took more than {self.config.timeout_s:g} s. Cut it to the part that matters."
            late = HTTPException(HTTPStatus.GATEWAY_TIMEOUT, f"{job.name}: {limit}")
            outcome, result = ("cancelled", _ending()) if job.stopped else ("timeout", late)
        except TorchfakesError as error:
            result = failure_of(error, job.name)
        except Exception as error:
            logger.error("scan %s: unexpected %s", job.id, type(error).__name__)
            logger.debug("it happened here:", exc_info=True)
            result = HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, f"{job.name}: unexpected {type(error).__name__}")
        finally:
            job.path.unlink(missing_ok=True)
        seconds = time.monotonic() - started
        self._seconds.append(seconds)
        self.finish(job, result)
        self.metrics.scans.labels(outcome, verdict or "").inc()
        self.metrics.scan_seconds.observe(seconds)
        job.log(f"{outcome} ({verdict})" if verdict else outcome)

    def _scan(self, job: Job, scanner: Scanner, deadline: float) -> tuple[Verdict | None, str]:
        """Scan a clip in the scanner's thread; return the verdict and the JSON document."""

        def advance(done: int, wanted: int | None) -> None:
            job.frames_done, job.frames_wanted = done, wanted

        result = scanner.scan(job.path, advance, stop=lambda: job.stopped or time.monotonic() > deadline)
        return result.verdict, result_to_json(replace(result, path=job.name))


class Metrics:
    """Prometheus metrics of one service; the series of scans exist from the start, with the value 0."""

    def __init__(self, service: Service) -> None:
        self.registry = to = CollectorRegistry()
        labels = ["method", "route", "status"]
        self.requests = Counter("torchfakes_http_requests", "Requests that were answered.", labels, registry=to)
        self.scans = Counter("torchfakes_scans", "Scans that ended.", ["outcome", "verdict"], registry=to)
        seconds = "Seconds that each scan took."
        self.scan_seconds = Histogram("torchfakes_scan_seconds", seconds, buckets=_BUCKETS_S, registry=to)
        ready = Gauge("torchfakes_ready", "1 while clips are taken.", registry=to)
        ready.set_function(lambda: service.ready)
        queue = Gauge("torchfakes_queue_length", "Clips that wait or are being uploaded.", registry=to)
        queue.set_function(lambda: service.waiting)
        for verdict in Verdict:
            self.scans.labels("done", verdict)
        for outcome in ("failed", "cancelled", "timeout"):
            self.scans.labels(outcome, "")
        ProcessCollector(registry=to)
        PlatformCollector(registry=to)


def _unavailable(detail: str) -> HTTPException:
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "5"})


def _ending() -> HTTPException:
    return _unavailable("the server is stopping. Try it again in a minute.")
