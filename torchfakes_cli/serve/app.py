"""What the service answers to which request."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from torchfakes_cli import __version__
from torchfakes_cli.serve.access import TokenRequired, refuse_web_pages
from torchfakes_cli.serve.documents import JobDocument, ScanDocument, StateDocument, job_document
from torchfakes_cli.serve.jobs import Job, QueueFullError
from torchfakes_cli.serve.metrics import CONTENT_TYPE
from torchfakes_cli.serve.openapi import CLIP_BODY, describe, problems
from torchfakes_cli.serve.problems import ProblemError, problem, problem_response
from torchfakes_cli.serve.service import Service, log_job
from torchfakes_cli.serve.upload import receive_clip

#: Seconds after which a client may ask again for a scan that isn't done, or a server that isn't ready.
_POLL_S = 1
_LOADING_S = 5

_WAIT = re.compile(r"wait\s*=\s*(\d{1,6})")


def create_app(service: Service, *, token: str | None, local_only: bool) -> FastAPI:
    """The routes over a service that is run elsewhere.

    Args:
        service: that scans.
        token: that clients must show; None for none.
        local_only: refuse what a web page sends, for a server without a token.
    """
    app = FastAPI(
        title="torchfakes",
        summary="Says of clips whether a face in them is synthetic.",
        description="A low score is no proof of authenticity.",
        version=__version__,
        docs_url=None,  # the pages would load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
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
    async def post_scan(
        request: Request,
        name: Annotated[str | None, Query(description="File name of the clip, where the body doesn't tell it.")] = None,
        prefer: Annotated[
            str | None, Header(description="RFC 7240: respond-async, or wait=SECONDS, at most the server's own.")
        ] = None,
    ) -> Response:
        """Answers with the result if it comes soon, and else with where to ask for it.

        A result that was answered isn't kept. Who hangs up while waiting doesn't get one: the scan ends then.
        """
        if not service.ready:
            raise _not_ready(service)
        try:
            job = jobs.admit()
        except QueueFullError as full:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, "the queue is full", {"Retry-After": str(full.retry_s)}
            ) from None
        await _receive(request, name, job, service)
        try:
            finished = await _finished(job, request, _patience(prefer, service.config.wait_s))
        except BaseException:
            service.cancel(job)
            raise
        if finished:
            jobs.forget(job)
            if job.problem:
                return problem_response(
                    job.problem, _retry_later() if job.problem.status == HTTPStatus.SERVICE_UNAVAILABLE else None
                )
            return Response(job.document, media_type="application/json")
        headers = {"Location": f"/v1/scans/{job.id}", "Retry-After": str(_POLL_S)}
        return JSONResponse(job_document(job, jobs.place(job)), HTTPStatus.ACCEPTED, headers)

    @router.get(
        "/v1/scans/{id}", summary="Ask for a scan", response_model=JobDocument, responses=problems(404), name="scan"
    )
    async def get_scan(id: str) -> Response:
        """How far the scan is; with its result, once that is known, for as long as it is kept."""
        job = _known(id, service)
        headers = {} if job.ended else {"Retry-After": str(_POLL_S)}
        return JSONResponse(job_document(job, jobs.place(job)), headers=headers)

    @router.delete("/v1/scans/{id}", summary="Cancel or forget a scan", status_code=204, responses=problems(404))
    async def delete_scan(id: str) -> Response:
        """Ends the scan if it isn't done, and forgets it and its result."""
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
        """In Prometheus's text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", summary="Whether the server lives", response_model=StateDocument)
    async def get_health() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Whether it takes clips", response_model=StateDocument, responses=problems(503))
    async def get_ready() -> Response:
        """Ready once the detector is loaded."""
        if not service.ready:
            raise _not_ready(service)
        return JSONResponse({"status": "ready"})


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def on_problem(_: Request, error: ProblemError) -> Response:
        return problem_response(error.problem, error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return problem_response(problem(HTTPStatus.UNPROCESSABLE_ENTITY, wrong))

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> Response:
        details = {404: "there is nothing here; /openapi.json tells what there is", 405: "no such method here"}
        status = HTTPStatus(error.status_code)
        return problem_response(problem(status, details.get(status, error.detail)), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def on_gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


async def _receive(request: Request, name: str | None, job: Job, service: Service) -> None:
    """Puts the clip of a request into the queue; on failure nothing of it stays."""
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
        log_job(job, f"refused ({error.problem.status})" if isinstance(error, ProblemError) else "not received")
        raise
    finally:
        ended.cancel()
    service.jobs.enqueue(job)


async def _finished(job: Job, request: Request, wait_s: float) -> bool:
    """Waits for the result of a job, which is cancelled if the client hangs up meanwhile; False if it doesn't come."""

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


def _patience(prefer: str | None, longest_s: float) -> float:
    """Seconds that a request waits for its result."""
    wishes = [wish.strip().lower() for wish in (prefer or "").split(",")]
    if "respond-async" in wishes:
        return 0
    waits = [int(match[1]) for wish in wishes if (match := _WAIT.fullmatch(wish))]
    return min([longest_s, *waits])


def _known(job_id: str, service: Service) -> Job:
    job = service.jobs.find(job_id)
    if job is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such scan, or it has been forgotten")
    return job


def _not_ready(service: Service) -> ProblemError:
    detail = "the server ends" if service.stopping else "the detector is being loaded"
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, _retry_later())


def _retry_later() -> dict[str, str]:
    return {"Retry-After": str(_LOADING_S)}
