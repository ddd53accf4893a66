"""HTTP application: who is served, routes, error handlers, and headers of all responses."""

from __future__ import annotations

import asyncio
import hmac
import logging
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchfakes_cli.report.summary import CAVEAT
from torchfakes_cli.serve.config import is_loopback
from torchfakes_cli.serve.documents import (
    ACCEPTED,
    CLIP_BODY,
    JobDocument,
    ScanDocument,
    StateDocument,
    problem_response,
    problems,
)
from torchfakes_cli.serve.service import Job, Metrics, Service
from torchfakes_cli.serve.upload import receive_clip
from torchfakes_cli.version import __version__

logger = logging.getLogger(__name__)

#: Header with the seconds after which to ask again for a scan that isn't done.
_POLL = {"Retry-After": "1"}

#: Page at /docs. Swagger UI comes from the package fastapi-offline, so that nothing is loaded from other servers.
_DOCS_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>torchfakes</title>
<link rel="stylesheet" href="/docs/static/swagger-ui.css"></head><body><div id="swagger-ui"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>"""
_DOCS_SCRIPT = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui"});'
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)

#: Replacements of the framework's messages.
_DETAILS = {
    "Not Found": "there is nothing here; /docs lists what there is",
    "Method Not Allowed": "no such method here",
}

#: Methods that metrics count one by one; clients could make up any number of others.
_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
#: Headers of every response, which keep browsers from guessing its type, rendering it as a page, or caching it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="The token the server was started with.")


def create_app(service: Service, *, token: str | None, local_only: bool) -> FastAPI:
    """Create the application for a service that is run elsewhere.

    Args:
        service: service that scans.
        token: token that clients must send; None if none is required.
        local_only: reject requests of web pages, for a server without a token.
    """
    app = FastAPI(
        title="torchfakes",
        summary="Scan clips for synthetic faces.",
        description=CAVEAT,
        version=__version__,
        docs_url=None,  # the framework's own pages load scripts from other servers
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
        dependencies=[Depends(refuse_web_pages)] if local_only else [],
        responses=problems(403) if local_only else {},
    )
    app.state.service, app.state.token = service, token
    for router in (_scans, _metrics):
        if token is None:
            app.include_router(router)
        else:
            app.include_router(router, dependencies=[Depends(require_token)], responses=problems(401))
    app.include_router(_probes)
    app.include_router(_docs, include_in_schema=False)
    app.add_api_route("/openapi.json", app.openapi, include_in_schema=False)
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_offline", "static")]))
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    return app


async def require_token(
    request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
) -> None:
    """Reject the request with status 401 unless it has the server's token."""
    token: str = request.app.state.token
    if shown is None or not hmac.compare_digest(shown.credentials.strip().encode("latin-1"), token.encode()):
        detail = "this needs the server's token: Authorization: Bearer TOKEN"
        raise HTTPException(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="torchfakes"'})


async def refuse_web_pages(request: Request) -> None:
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


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]


async def _job(id: str, service: ServiceOf) -> Job:
    job = service.find(id)
    if job is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such scan, or it has been forgotten")
    return job


JobOf = Annotated[Job, Depends(_job)]

_scans = APIRouter(prefix="/v1/scans", tags=["scans"])


@_scans.post(
    "",
    summary="Scan a clip",
    response_model=ScanDocument,
    responses={202: ACCEPTED, **problems(400, 408, 413, 415, 422, 429, 500, 503, 504, 507)},
    openapi_extra=CLIP_BODY,
)
async def create_scan(
    request: Request,
    service: ServiceOf,
    name: Annotated[str | None, Query(description="File name of the clip, where the body doesn't tell it.")] = None,
    prefer: Annotated[
        str | None, Header(description="RFC 7240: respond-async, or wait=SECONDS, at most the server's own.")
    ] = None,
    wait: Annotated[
        int | None, Query(ge=0, description="Wait for the result for this many seconds, up to the server's own limit.")
    ] = None,
) -> Response:
    """Answer with the result if it comes soon, and else with where to ask for it.

    A result that was answered isn't kept. Hanging up while waiting ends the scan.
    """
    wait_s = _wait_s(prefer, wait, service.config.wait_s)
    job = service.admit()
    await _receive(request, name, job, service)
    try:
        finished = await _finished(job, request, wait_s)
    except BaseException:
        service.forget(job)
        raise
    if finished:
        service.forget(job)
        return Response(job.result.result(), media_type="application/json")
    return JSONResponse(service.document(job), 202, {"Location": f"/v1/scans/{job.id}", **_POLL})


@_scans.get("/{id}", summary="Ask for a scan", response_model=JobDocument, responses=problems(404, 422))
async def get_scan(job: JobOf, service: ServiceOf) -> Response:
    """Answer with the progress of the scan, and with its result for as long as that is kept."""
    return JSONResponse(service.document(job), headers=None if job.finished_at else _POLL)


@_scans.delete("/{id}", summary="Cancel or forget a scan", status_code=204, responses=problems(404, 422))
async def delete_scan(job: JobOf, service: ServiceOf) -> None:
    """End the scan if it isn't done, and forget it and its result."""
    service.forget(job)


_metrics = APIRouter(tags=["monitoring"])


@_metrics.get(
    "/metrics",
    summary="Counts for a monitor",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(service: ServiceOf) -> Response:
    """Answer in Prometheus's text format."""
    return Response(generate_latest(service.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


_probes = APIRouter(tags=["monitoring"])


@_probes.get("/healthz", summary="Whether the server lives")
async def get_health() -> StateDocument:
    """Answer 200 as long as the server runs."""
    return StateDocument(status="ok")


@_probes.get("/readyz", summary="Whether it takes clips", responses=problems(503))
async def get_readiness(service: ServiceOf) -> StateDocument:
    """Answer 200 once the detector is loaded."""
    service.check_ready()
    return StateDocument(status="ready")


_docs = APIRouter()


@_docs.get("/docs")
async def get_docs() -> Response:
    """Answer with the page that shows the OpenAPI document."""
    return HTMLResponse(_DOCS_PAGE, headers={"Content-Security-Policy": _DOCS_POLICY})


@_docs.get("/docs/start.js")
async def get_docs_script() -> Response:
    """Answer with the script of that page, whose policy allows no inline scripts."""
    return Response(_DOCS_SCRIPT, media_type="text/javascript")


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return problem_response(HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, wrong))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = _DETAILS.get(error.detail, error.detail)
    return problem_response(HTTPException(error.status_code, detail, error.headers))


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # the client has gone


async def _receive(request: Request, name: str | None, job: Job, service: Service) -> None:
    """Receive the clip of a request and add it to the queue; on failure, remove the job and its file."""
    receiving = asyncio.create_task(receive_clip(request, job, name, service.config))
    first: set[asyncio.Future[Any]] = {receiving, job.result}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if job.result.done():
            job.result.result()  # raises: the service is stopping
        receiving.result()
    except BaseException as error:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)  # until it has closed its file
        service.forget(job)
        job.log(f"refused ({error.status_code})" if isinstance(error, HTTPException) else "not received")
        raise
    service.enqueue(job)


async def _finished(job: Job, request: Request, wait_s: float) -> bool:
    """Wait for the result of a job; return False if it isn't known in time.

    Raises:
        ClientDisconnect: the client has hung up.
    """

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(hung_up())
    first: set[asyncio.Future[Any]] = {gone, job.result}
    try:
        await asyncio.wait(first, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not job.result.done():
            raise ClientDisconnect
    finally:
        gone.cancel()
    return job.result.done()


def _wait_s(prefer: str | None, wait: int | None, longest_s: float) -> float:
    """Return the seconds that a request waits for its result."""
    waits = [longest_s] if wait is None else [longest_s, wait]
    for wish in (prefer or "").lower().split(","):
        name, _, value = (part.strip() for part in wish.partition("="))
        if name == "respond-async":
            return 0
        if name == "wait":
            if not (value.isdecimal() and value.isascii()):
                raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "header.prefer: wait takes a number of seconds")
            waits.append(float(value))
    return min(waits)


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
                failed = HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}")
                await problem_response(failed)(scope, receive, send_on)
        finally:
            if status:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(method, route, str(status)).inc()
