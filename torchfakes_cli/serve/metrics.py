"""What a monitor is told, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from torchfakes_cli.records import Verdict

CONTENT_TYPE = CONTENT_TYPE_LATEST

_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
_SECONDS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Outcome(StrEnum):
    """How a scan ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Metrics:
    """Counts for one server; all series are there from the start, at 0.

    Args:
        queue_length: tells how many clips wait or are on their way.
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
            self._scans.labels(Outcome.DONE.value, verdict.value)
        for outcome in (Outcome.FAILED, Outcome.CANCELLED, Outcome.TIMEOUT):
            self._scans.labels(outcome.value, "")
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def ready(self) -> None:
        """The detector is loaded."""
        self._ready.set(1)

    def request(self, method: str, route: str, status: int) -> None:
        """A request was answered; unknown methods share one series, so that clients can't make up any number."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()

    def scan(self, outcome: Outcome, verdict: Verdict | None, seconds: float) -> None:
        """A scan ended."""
        self._scans.labels(outcome.value, verdict.value if verdict else "").inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
