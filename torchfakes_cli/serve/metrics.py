"""Metrics in Prometheus's text format, and the middleware that counts responses and adds headers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchfakes_cli.records import Verdict
from torchfakes_cli.serve.documents import problem, problem_response

logger = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
#: Headers of every response, which keep browsers from guessing its type, rendering it as a page, or caching it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_SECONDS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class JobOutcome(StrEnum):
    """Outcome of a job, as a label of metrics."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Metrics:
    """Metrics of one server; all series exist from the start, with the value 0.

    Args:
        queue_length: returns the number of clips that are waiting or being uploaded.
    """

    def __init__(self, queue_length: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "torchfakes_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._scans = Counter("torchfakes_scans", "Scans that ended.", ["outcome", "verdict"], registry=self._registry)
        self._seconds = Histogram(
            "torchfakes_scan_seconds", "Seconds that each scan took.", buckets=_SECONDS, registry=self._registry
        )
        self._ready = Gauge("torchfakes_ready", "1 once the detector is loaded.", registry=self._registry)
        queue = Gauge("torchfakes_queue_length", "Clips that wait or are on their way.", registry=self._registry)
        queue.set_function(queue_length)
        for verdict in Verdict:
            self._scans.labels(JobOutcome.DONE.value, verdict.value)
        for outcome in (JobOutcome.FAILED, JobOutcome.CANCELLED, JobOutcome.TIMEOUT):
            self._scans.labels(outcome.value, "")
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def ready(self) -> None:
        """Record that the detector is loaded."""
        self._ready.set(1)

    def request(self, method: str, route: str, status: int) -> None:
        """Count a request; unknown methods share one series, so that clients can't create arbitrary ones."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()

    def scan(self, outcome: JobOutcome, verdict: Verdict | None, seconds: float) -> None:
        """Count a scan that ended."""
        self._scans.labels(outcome.value, verdict.value if verdict else "").inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)


class Envelope:
    """ASGI middleware that adds headers, counts responses, and turns unexpected errors into problem documents."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            logger.error("unexpected %s", type(error).__name__)
            logger.debug("it happened here:", exc_info=True)
            if not status:
                failed = problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}")
                await problem_response(failed)(scope, receive, send_on)
        finally:
            if status:
                self._metrics.request(scope["method"], getattr(scope.get("route"), "path", "other"), status)
