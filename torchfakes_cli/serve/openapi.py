"""The OpenAPI document, made to say what is so: errors are problem documents, and bodies are read as they come."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from torchfakes_cli.serve.problems import PROBLEM_JSON, Problem

_CLIP = {"type": "string", "format": "binary"}

#: What a clip may come as. No model stands for it, for the body is written to disk before anything looks at it.
CLIP_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A video or a picture: one file in a form, whatever its field is called, or the bytes alone.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _CLIP}},
            },
            "application/octet-stream": {"schema": _CLIP},
            "video/*": {"schema": _CLIP},
            "image/*": {"schema": _CLIP},
        },
    }
}

_RETRY = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}
_HEADERS = {
    HTTPStatus.ACCEPTED: {
        **_RETRY,
        "Location": {"description": "Where to ask for the result.", "schema": {"type": "string"}},
    },
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY,
}
_MEANINGS = {
    400: "The form is malformed.",
    401: "The token is missing or wrong.",
    403: "Without a token: the request came from a web page, or asked for a host that isn't this machine.",
    404: "There is no such scan, or it has been forgotten.",
    408: "The upload stopped, or is too slow.",
    413: "The clip is too large or too long.",
    415: "The file is no video that is read here, or the body isn't a clip.",
    422: "The video can't be decoded well enough, or there is none in the request.",
    429: "The queue is full.",
    500: "An unexpected error.",
    503: "The detector is being loaded, or the server ends.",
    504: "The scan, or the decoder, took too long.",
    507: "There is no room for the clip.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an operation."""
    return {status: {"model": Problem, "description": _MEANINGS[status]} for status in statuses}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of an application; the framework's own guesses at errors are taken out."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            framework = answers.get("422", {}).get("description") == "Validation Error"
            if framework:
                del answers["422"]
            for status, answer in answers.items():
                if int(status) >= HTTPStatus.BAD_REQUEST:
                    answer["content"] = {PROBLEM_JSON: answer["content"]["application/json"]}
                if headers := _HEADERS.get(HTTPStatus(int(status))):
                    answer["headers"] = headers
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document
