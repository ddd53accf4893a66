"""What every answer goes through: headers, counts, and an end for errors that nobody expected."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchfakes_cli.serve.metrics import Metrics
from torchfakes_cli.serve.problems import problem, problem_response

logger = logging.getLogger(__name__)

#: Answers are data: no browser should guess at their type, show them as a page, or keep them.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Envelope:
    """An ASGI application around another one.

    Args:
        app: that answers.
        metrics: told of each answer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
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
