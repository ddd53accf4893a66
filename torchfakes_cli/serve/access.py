"""Access control: clients with the token or, without a token, programs on this machine except web pages."""

# No postponed annotations: older versions of FastAPI don't resolve those of a __call__.

import hmac
import ipaddress
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request

from torchfakes_cli.errors import UsageError
from torchfakes_cli.serve.config import ServeConfig

TOKEN_VARIABLE = "TORCHFAKES_TOKEN"
_SHORTEST_TOKEN = 16
_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="The token the server was started with.")


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
            f"whoever reaches {config.host} could use the service",
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


class TokenRequired:
    """FastAPI dependency that accepts only requests with the token.

    Args:
        token: token that requests must have.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __call__(self, shown: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]) -> None:
        """Reject the request with status 401 unless it has the token."""
        if shown is None or not hmac.compare_digest(shown.credentials.strip().encode("latin-1"), self._token):
            detail = "this needs the server's token: Authorization: Bearer TOKEN"
            raise HTTPException(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="torchfakes"'})


def refuse_web_pages(request: Request) -> None:
    """Reject requests of web pages, for a server without a token, which trusts all programs on its machine.

    A browser on this machine can send requests for any web page. They have the page's origin or, with DNS rebinding
    (the page's own name resolves to this machine), that name as their host.

    Raises:
        HTTPException: status 403.
    """
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    origin = request.headers.get("origin", f"http://{host}")
    if not is_loopback(name) or origin != f"http://{host}":
        raise HTTPException(
            HTTPStatus.FORBIDDEN, "without a token, only programs of this machine are served, and no web pages"
        )
