"""Service: a scanner in a background thread that scans the clips of a queue one after another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from os import PathLike
from pathlib import Path

from torchfakes_cli.errors import StoppedError, TorchfakesError
from torchfakes_cli.records import Verdict
from torchfakes_cli.report import result_to_json
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.serve.documents import problem, problem_of
from torchfakes_cli.serve.jobs import Job, Jobs, Problem, State
from torchfakes_cli.serve.metrics import JobOutcome, Metrics

logger = logging.getLogger(__name__)


class Service:
    """Scan service, which scans the jobs of its queue from ``run`` to ``stop``.

    Only the scans themselves run in another thread than the event loop's.

    Args:
        config: limits of the service.
        scan_config: configuration of every scan, except for the greatest length, which ``config`` sets.
        folder: folder of the clips.
        model: path or name of a checkpoint; None for the shipped one.

    Attributes:
        config: limits of the service.
        jobs: queue and results.
        metrics: metrics of the server.
        ready: True while the detector is loaded and the service isn't stopping.
        failure: error that ended the service; None without one.
    """

    def __init__(
        self, config: ServeConfig, scan_config: ScanConfig, folder: Path, model: str | PathLike[str] | None = None
    ) -> None:
        self.config = config
        self.jobs = Jobs(config, folder)
        self.metrics = Metrics(lambda: self.jobs.waiting)
        self.ready = False
        self.failure: Exception | None = None
        self._scan_config = replace(scan_config, max_length_s=config.max_length_s)
        self._model = model
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """True once ``stop`` has been called."""
        return self._stopping

    async def run(self, give_up: Callable[[], None]) -> None:
        """Load the detector and scan until the service is stopped.

        Args:
            give_up: called if the detector can't be loaded or the service fails; ``failure`` has the error.
        """
        try:
            with ThreadPoolExecutor(1, "scan") as thread:
                await self._work(thread)
        except Exception as error:  # noqa: BLE001 - raised by run_service
            self.failure = error
            give_up()

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        scanner = await loop.run_in_executor(thread, self._load)
        try:
            self.ready = not self._stopping
            self.metrics.ready()
            while (job := await self.jobs.next()) is not None:
                await self._take(job, scanner, thread)
        finally:
            self.ready = False
            await loop.run_in_executor(thread, scanner.close)

    def stop(self) -> None:
        """Stop the running scan within about a second, and all waiting jobs; may be called several times."""
        self._stopping = True
        self.ready = False
        self.jobs.close(_ending())

    def cancel(self, job: Job) -> None:
        """Stop a scan that isn't done, and remove the job and its result."""
        if job.state is State.QUEUED:
            log_job(job, JobOutcome.CANCELLED.value)
        self.jobs.forget(job)

    def _load(self) -> Scanner:
        scanner = Scanner(self._scan_config, model=self._model)
        try:
            scanner.load()
        except BaseException:
            scanner.close()
            raise
        return scanner

    async def _take(self, job: Job, scanner: Scanner, thread: ThreadPoolExecutor) -> None:
        """Scan a clip, delete it, and store the result."""
        started = time.monotonic()
        deadline = started + self.config.timeout_s
        verdict: Verdict | None = None
        result: str | Problem
        try:
            scan = asyncio.get_running_loop().run_in_executor(thread, self._scan, job, scanner, deadline)
            verdict, result = await scan
            outcome = JobOutcome.DONE
        except StoppedError:
            late = not job.stopped
            outcome = JobOutcome.TIMEOUT if late else JobOutcome.CANCELLED
            result = self._too_slow(job) if late else _ending()
        except TorchfakesError as error:
            outcome, result = JobOutcome.FAILED, problem_of(error, job.name)
        except Exception as error:
            logger.error("scan %s: unexpected %s", job.id, type(error).__name__)
            logger.debug("it happened here:", exc_info=True)
            outcome = JobOutcome.FAILED
            result = problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"{job.name}: unexpected {type(error).__name__}")
        finally:
            job.path.unlink(missing_ok=True)
        seconds = time.monotonic() - started
        self.jobs.finish(job, result, seconds)
        self.metrics.scan(outcome, verdict, seconds)
        log_job(job, f"{outcome.value} ({verdict.value})" if verdict else outcome.value)

    def _scan(self, job: Job, scanner: Scanner, deadline: float) -> tuple[Verdict | None, str]:
        """Scan a clip in the scanner's thread; return the verdict and the JSON document."""

        def advance(done: int, wanted: int | None) -> None:
            job.frames_done, job.frames_wanted = done, wanted

        result = scanner.scan(job.path, advance, stop=lambda: job.stopped or time.monotonic() > deadline)
        return result.verdict, result_to_json(replace(result, path=job.name))

    def _too_slow(self, job: Job) -> Problem:
        detail = f"{job.name}: the scan took more than {self.config.timeout_s:g} s. Cut it to the part that matters."
        return problem(HTTPStatus.GATEWAY_TIMEOUT, detail)


def log_job(job: Job, outcome: str) -> None:
    """Log one line about a job; its fields are attributes of the record, too."""
    fields = {"scan_id": job.id, "bytes": job.size, "elapsed_s": round(job.elapsed_s, 3), "outcome": outcome}
    logger.info("scan %s: %d bytes, %.1f s, %s", job.id, job.size, job.elapsed_s, outcome, extra=fields)


def _ending() -> Problem:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping. Try it again in a minute.")
