"""HTTP server: listen, serve until a signal arrives, and clean up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import PathLike

import uvicorn
from fastapi import FastAPI

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.files import temporary_folder
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.serve.app import Envelope, create_app
from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.serve.service import Service

#: Seconds that active requests have to end after the stop signal.
_GRACE_S = 5


def run_service(
    config: ServeConfig,
    scan_config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    token: str | None = None,
    local_only: bool = True,
    told: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until a signal arrives, which is then raised again: Ctrl-C gives a ``KeyboardInterrupt``.

    Args:
        config: address and limits of the service.
        scan_config: configuration of every scan; None for the defaults.
        model: path or name of a checkpoint; None for the shipped one.
        token: token that clients must send; None if none is required.
        local_only: without a token, serve only programs on this machine, and reject requests of web pages.
        told: called with the address once connections are accepted, before the detector is loaded.

    Raises:
        ModelError: the detector can't be loaded.
        UsageError: the configuration doesn't fit the detector or this machine.
        TorchfakesError: the address can't be listened on, or no folder for clips can be made.
    """
    with _listener(config) as listener, temporary_folder("torchfakes-serve-") as folder:
        service = Service(config, scan_config or ScanConfig(), folder, model)
        app = create_app(service, token=token, local_only=local_only and token is None)
        server = _Server(Envelope(app, service.metrics), service)
        app.router.lifespan_context = server.lifespan
        host, port = listener.getsockname()[:2]
        told(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])
        if server.failure is not None:
            raise server.failure


class _Server(uvicorn.Server):
    """Uvicorn server that stops the service before it waits for requests, because these wait for the service."""

    failure: BaseException | None = None

    def __init__(self, app: Envelope, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._service = service

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the service for as long as the server runs, and end the server if the service fails."""
        work = asyncio.create_task(self._service.run())
        work.add_done_callback(lambda _: setattr(self, "should_exit", True))
        yield
        self._service.stop()
        await asyncio.wait({work})
        self.failure = work.exception()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the service, then the server."""
        self._service.stop()
        await super().shutdown(sockets)


def _listener(config: ServeConfig) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), config.port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TorchfakesError(
            f"can't listen on {config.host}, port {config.port}: {reason}", advice="Choose another --host or --port."
        ) from error
