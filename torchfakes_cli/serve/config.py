"""Configuration of the HTTP service: its address, its limits, and the token that clients must send."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from torchfakes_cli.errors import UsageError

TOKEN_VARIABLE = "TORCHFAKES_TOKEN"
_SHORTEST_TOKEN = 16


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
        for words, number in (
            ("size of a clip", self.max_size_mb),
            ("length of a clip", self.max_length_s),
            ("time for a scan", self.timeout_s),
            ("time that an upload may be idle", self.idle_s),
        ):
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


def is_loopback(host: str) -> bool:
    """Return True if only programs on this machine can reach a server at an address; the only such name is localhost.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(config: ServeConfig, file: str | None, environment: Mapping[str, str], *, no_auth: bool) -> str | None:
    """Read the token that clients must send; None if no token is required.

    Args:
        config: configuration with the address of the server.
        file: path of a file with the token.
        environment: environment variables; ``TORCHFAKES_TOKEN`` has the token if no file is given.
        no_auth: serve all clients without a token.

    Raises:
        UsageError: the token is missing on an address that others can reach, too short, or can't be read.
    """
    if no_auth:
        if file:
            raise UsageError("--no-auth and --token-file contradict each other")
        return None
    token = environment.get(TOKEN_VARIABLE)
    if file:
        try:
            token = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a text in UTF-8"
            raise UsageError(f"the token can't be read: {reason.lower()}", path=file) from error
    if token is None:
        if is_loopback(config.host):
            return None
        raise UsageError(
            f"everybody who can reach {config.host} could use the service",
            advice=f"Give a token by --token-file or {TOKEN_VARIABLE}, or serve everybody by --no-auth.",
        )
    token = token.strip()
    if len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"a token under {_SHORTEST_TOKEN} characters can be guessed",
            path=file,
            advice="Make one by: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'.",
        )
    return token
