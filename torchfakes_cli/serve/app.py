"""HTTP application: routes, responses and error handlers of the service."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from torchfakes_cli.report.summary import CAVEAT
from torchfakes_cli.serve.access import TokenRequired, refuse_web_pages
from torchfakes_cli.serve.documents import (
    CLIP_BODY,
    JobDocument,
    ScanDocument,
    StateDocument,
    describe,
    job_document,
    problem,
    problem_response,
    problems,
)
from torchfakes_cli.serve.jobs import Job, QueueFullError
from torchfakes_cli.serve.metrics import CONTENT_TYPE
from torchfakes_cli.serve.service import Service, log_job
from torchfakes_cli.serve.upload import receive_clip
from torchfakes_cli.version import __version__

#: Value in seconds of Retry-After for a scan that isn't done.
_POLL_S = 1
_RETRY_LATER = {"Retry-After": "5"}

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
    )
    refusals = (403,) if local_only else ()
    guarded = APIRouter(
        dependencies=[Depends(TokenRequired(token))] if token else [],
        responses=problems(*refusals, *((401,) if token else ())),
    )
    _add_scans(guarded, service)
    _add_metrics(guarded, service)
    opened = APIRouter(responses=problems(*refusals))
    _add_health(opened, service)
    app.include_router(guarded)
    app.include_router(opened)
    document = describe(app)
    app.add_api_route("/openapi.json", lambda: JSONResponse(document), include_in_schema=False)
    _add_docs(app)
    _add_handlers(app)
    return app


def _add_scans(router: APIRouter, service: Service) -> None:
    jobs = service.jobs

    @router.post(
        "/v1/scans",
        summary="Scan a clip",
        response_model=ScanDocument,
        responses={
            HTTPStatus.ACCEPTED: {"model": JobDocument, "description": "The scan goes on: ask for it later."},
            **problems(400, 408, 413, 415, 422, 429, 500, 503, 504, 507),
        },
        openapi_extra=CLIP_BODY,
    )
    async def create_scan(
        request: Request,
        name: Annotated[str | None, Query(description="File name of the clip, where the body doesn't tell it.")] = None,
        prefer: Annotated[
            str | None, Header(description="RFC 7240: respond-async, or wait=SECONDS, at most the server's own.")
        ] = None,
        wait: Annotated[
            int | None, Query(ge=0, description="Wait so many seconds for the result, at most the server's own.")
        ] = None,
    ) -> Response:
        """Answer with the result if it comes soon, and else with where to ask for it.

        A result that was answered isn't kept. Hanging up while waiting ends the scan.
        """
        wait_s = _wait_s(prefer, wait, service.config.wait_s)
        if not service.ready:
            raise _not_ready(service)
        try:
            job = jobs.admit()
        except QueueFullError as full:
            retry = {"Retry-After": str(full.retry_s)}
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, "the queue is full", retry) from None
        await _receive(request, name, job, service)
        try:
            finished = await _finished(job, request, wait_s)
        except BaseException:
            service.cancel(job)
            raise
        if finished:
            jobs.forget(job)
            if job.problem:
                stopping = job.problem.status == HTTPStatus.SERVICE_UNAVAILABLE
                return problem_response(job.problem, _RETRY_LATER if stopping else None)
            return Response(job.document, media_type="application/json")
        headers = {"Location": f"/v1/scans/{job.id}", "Retry-After": str(_POLL_S)}
        return JSONResponse(job_document(job, jobs.place(job)), HTTPStatus.ACCEPTED, headers)

    @router.get("/v1/scans/{id}", summary="Ask for a scan", response_model=JobDocument, responses=problems(404))
    async def get_scan(id: str) -> Response:
        """Answer with the progress of the scan, and with its result for as long as that is kept."""
        job = _known(id, service)
        headers = {} if job.ended else {"Retry-After": str(_POLL_S)}
        return JSONResponse(job_document(job, jobs.place(job)), headers=headers)

    @router.delete("/v1/scans/{id}", summary="Cancel or forget a scan", status_code=204, responses=problems(404))
    async def delete_scan(id: str) -> Response:
        """End the scan if it isn't done, and forget it and its result."""
        service.cancel(_known(id, service))
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _add_metrics(router: APIRouter, service: Service) -> None:
    @router.get(
        "/metrics",
        summary="Counts for a monitor",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def get_metrics() -> Response:
        """Answer in Prometheus's text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", summary="Whether the server lives", response_model=StateDocument)
    async def get_health() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Whether it takes clips", response_model=StateDocument, responses=problems(503))
    async def get_readiness() -> Response:
        """Answer 200 once the detector is loaded."""
        if not service.ready:
            raise _not_ready(service)
        return JSONResponse({"status": "ready"})


def _add_docs(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> Response:
        return HTMLResponse(_DOCS_PAGE, headers={"Content-Security-Policy": _DOCS_POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    async def get_docs_script() -> Response:
        return Response(_DOCS_SCRIPT, media_type="text/javascript")

    app.mount("/docs/static", StaticFiles(directory=str(files("fastapi_offline") / "static")))


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return problem_response(problem(HTTPStatus.UNPROCESSABLE_ENTITY, wrong))

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> Response:
        return problem_response(
            problem(HTTPStatus(error.status_code), _DETAILS.get(error.detail, error.detail)), error.headers
        )

    @app.exception_handler(ClientDisconnect)
    async def on_gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # the client has gone


async def _receive(request: Request, name: str | None, job: Job, service: Service) -> None:
    """Receive the clip of a request and add it to the queue; on failure, remove the job and its file."""
    receiving = asyncio.create_task(receive_clip(request, job.path, name, service.config))
    ended = asyncio.create_task(job.finished.wait())
    try:
        await asyncio.wait({receiving, ended}, return_when=asyncio.FIRST_COMPLETED)
        if service.stopping:
            raise _not_ready(service)
        received = receiving.result()
        job.name, job.path, job.size = received.name, received.path, received.size
    except BaseException as error:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)  # until it has closed its file
        service.jobs.forget(job)
        log_job(job, f"refused ({error.status_code})" if isinstance(error, HTTPException) else "not received")
        raise
    finally:
        ended.cancel()
    service.jobs.enqueue(job)


async def _finished(job: Job, request: Request, wait_s: float) -> bool:
    """Wait for the result of a job; return False if it isn't known in time.

    Raises:
        ClientDisconnect: the client has hung up.
    """

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done, gone = asyncio.create_task(job.finished.wait()), asyncio.create_task(hung_up())
    try:
        await asyncio.wait({done, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not job.finished.is_set():
            raise ClientDisconnect
        return job.finished.is_set()
    finally:
        done.cancel()
        gone.cancel()


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


def _known(job_id: str, service: Service) -> Job:
    job = service.jobs.find(job_id)
    if job is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such scan, or it has been forgotten")
    return job


def _not_ready(service: Service) -> HTTPException:
    detail = "the server is stopping" if service.stopping else "the detector is being loaded"
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, _RETRY_LATER)
