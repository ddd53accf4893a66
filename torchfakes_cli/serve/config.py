"""Configuration of the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torchfakes_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Where the HTTP service listens, and what it takes and keeps.

    Attributes:
        host: name or address to listen on.
        port: to listen on; 0 for any that is free.
        max_size_mb: MiB of one clip, at most.
        max_length_s: seconds that a clip may last.
        timeout_s: a scan that takes longer in all is given up.
        wait_s: a request waits so long for the result of its clip, and is told where to ask for it after that.
        queue: clips that may wait (or be on their way) besides the one that is scanned.
        keep_s: results that nobody waited for can be fetched for so long …
        keep_results: … but only the latest so many of them.
        idle_s: an upload from which nothing comes for so long is given up.
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
        """Bytes of one clip, at most."""
        return int(self.max_size_mb * (1 << 20))
