"""Configuration of the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torchfakes_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Address of the HTTP service, and limits on clips and results.

    Attributes:
        host: name or address to listen on.
        port: port to listen on; 0 for a free one.
        max_size_mb: largest clip in MiB.
        max_length_s: longest clip in seconds.
        timeout_s: longest duration of a scan; longer ones are given up.
        wait_s: time that a request waits for its result; after that the response has the address to poll.
        queue: most clips that wait or are being uploaded, besides the one being scanned.
        keep_s: time for which results that were not waited for can be fetched.
        keep_results: most results kept.
        idle_s: an upload that sends nothing for this long is given up.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_size_mb: float = 512.0
    max_length_s: float = 3600.0
    timeout_s: float = 600.0
    wait_s: float = 30.0
    queue: int = 8
    keep_s: float = 3600.0
    keep_results: int = 100
    idle_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise UsageError("a port is a number from 0 to 65535")
        above_zero = {
            "size of a clip": self.max_size_mb,
            "length of a clip": self.max_length_s,
            "time for a scan": self.timeout_s,
            "time that an upload may be idle": self.idle_s,
        }
        for words, number in above_zero.items():
            if not 0 < number < inf:
                raise UsageError(f"the greatest {words} must be a number above 0")
        if not (0 <= self.wait_s < inf and 0 <= self.keep_s < inf):
            raise UsageError("seconds to wait, and to keep results for, are numbers from 0 up")
        if self.queue < 1:
            raise UsageError("at least one clip must be able to wait")
        if self.keep_results < 1:
            raise UsageError("at least one result must be kept")

    @property
    def max_bytes(self) -> int:
        """Largest clip in bytes."""
        return int(self.max_size_mb * (1 << 20))
