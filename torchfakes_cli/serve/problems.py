"""What goes wrong, as an HTTP client is told: RFC 9457 problem documents that hold the project's one-line errors."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from torchfakes_cli.errors import (
    DecodeTimeoutError,
    MediaError,
    TooLongError,
    TorchfakesError,
    UnsupportedMediaError,
)

PROBLEM_JSON = "application/problem+json"

#: The status that stands for an error, the first that fits.
_STATUSES: tuple[tuple[type[TorchfakesError], HTTPStatus], ...] = (
    (TooLongError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMediaError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (DecodeTimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (MediaError, HTTPStatus.UNPROCESSABLE_ENTITY),
)


class Problem(BaseModel):
    """An error as RFC 9457 wants it."""

    type: str = Field(default="about:blank", description="about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599, description="The HTTP status that the problem has, or would have had.")
    detail: str = Field(description="What is wrong with what, and what to do next, in one line.")


class ProblemError(Exception):
    """Ends a request with a problem document.

    Args:
        status: of the answer.
        detail: one line.
        headers: of the answer.
    """

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = problem(status, detail)
        self.headers = dict(headers or {})


def problem(status: HTTPStatus, detail: str) -> Problem:
    """The document for a status."""
    return Problem(title=status.phrase, status=status, detail=detail)


def problem_of(error: TorchfakesError, name: str) -> Problem:
    """The document for a scan that failed.

    Args:
        error: its reason.
        name: of the clip, as the client gave it.
    """
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    # Never the path of the error: it is that of the temporary file.
    return problem(status, str(TorchfakesError(error.cause, path=name, advice=error.advice)))


def problem_response(found: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that carries a problem."""
    return JSONResponse(found.model_dump(), found.status, headers=headers, media_type=PROBLEM_JSON)
