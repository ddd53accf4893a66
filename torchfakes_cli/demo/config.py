"""Configuration of the demo page."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from math import inf

from torchfakes_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Address of the demo page, and limits on uploads.

    Attributes:
        host: address to serve on.
        port: port to serve on.
        most_mb: largest file in megabytes.
        most_minutes: longest video in minutes.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    most_mb: int = 200
    most_minutes: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.port < 1 << 16:
            raise UsageError("a port is a number from 1 to 65535")
        if self.most_mb < 1:
            raise UsageError("files of at least one megabyte must be taken")
        if not 0 < self.most_minutes < inf:
            raise UsageError("videos of more than 0 minutes must be taken")

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False
