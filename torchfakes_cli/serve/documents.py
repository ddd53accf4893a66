"""Schemas of responses and errors, as the OpenAPI document has them.

``report`` writes the results. Errors are RFC 9457 problem documents with the one-line messages of the package.
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from torchfakes_cli.errors import DecodeTimeoutError, MediaError, TooLongError, TorchfakesError, UnsupportedMediaError
from torchfakes_cli.records import Reason, Verdict

_PROBLEM_JSON = "application/problem+json"

#: HTTP status of errors; the first matching class counts.
_STATUSES: tuple[tuple[type[TorchfakesError], HTTPStatus], ...] = (
    (TooLongError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMediaError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (DecodeTimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (MediaError, HTTPStatus.UNPROCESSABLE_ENTITY),
)

_CLIP = {"type": "string", "format": "binary"}
#: OpenAPI description of the request body. It has no model, because the body is streamed to disk.
CLIP_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A video or a picture: one file in a form, under any field name, or the bytes alone.",
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
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY,
    503: _RETRY,
}
_MEANINGS = {
    400: "The form is malformed.",
    401: "The token is missing or wrong.",
    403: "Without a token: the request came from a web page, or asked for a host that isn't this machine.",
    404: "There is no such scan, or it has been forgotten.",
    408: "The upload stopped, or is too slow.",
    413: "The clip is too large or too long.",
    415: "The file is no video that is read here, or the body isn't a clip.",
    422: "The video can't be decoded well enough, there is none in the request, or a parameter is malformed.",
    429: "The queue is full.",
    500: "An unexpected error.",
    503: "The detector is being loaded, or the server is stopping.",
    504: "The scan, or the decoder, took too long.",
    507: "There is no room for the clip.",
}


class Problem(BaseModel):
    """Problem document of RFC 9457."""

    type: str = Field(description="about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599, description="The HTTP status that the problem has, or would have had.")
    detail: str = Field(description="What is wrong with what, and what to do next, in one line.")


class FaceDocument(BaseModel):
    """One face in one frame."""

    box: list[float] = Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the upright frame.")
    confidence: float = Field(ge=0, le=1, description="The face detector's.")
    landmarks: list[list[float]] = Field(description="Eyes, nose and corners of the mouth as x, y.")


class TimelineRow(BaseModel):
    """One face, or one sampled frame without any."""

    time_s: float = Field(description="Presentation time from the first shown frame.")
    frame: int | None = Field(description="Index in presentation order, where known.")
    track: int | None = Field(description="Number of the person's track.")
    face: FaceDocument | None
    sharpness: float | None = Field(description="Variance of the Laplacian of the crop.")
    logit: float | None
    p_fake: float | None = Field(description="Calibrated probability that the face is synthetic.")
    note: Literal["no_face", "blurry", "damaged", "long_shot"] | None = Field(description="Why there is no score.")


class SuspiciousSpanDocument(BaseModel):
    """Part of a track that scores as fake although the whole track doesn't."""

    start_s: float
    end_s: float
    p_fake: float = Field(description="Of its most suspicious window.")


class TrackDocument(BaseModel):
    """One person through one shot."""

    track: int
    start_s: float
    end_s: float
    faces: int
    faces_scored: int
    logit: float | None
    p_fake: float | None
    peak_time_s: float | None
    lasting: bool = Field(description="Seen often enough to decide a verdict.")
    doubt: Literal["tiny_faces"] | None = Field(description="Why the score says too little.")
    suspicious_span: SuspiciousSpanDocument | None = Field(description="With the reason part_of_clip.")
    flagged: bool = Field(description="Can decide a verdict and scores at least fake_above.")


class VideoDocument(BaseModel):
    """Properties of the file."""

    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    frame_count: int | None
    rotation: int
    picture: bool = Field(description="It is a still picture: one frame at time 0.")


class VerdictCounts(BaseModel):
    """Numbers of videos by verdict."""

    real: int
    inconclusive: int
    fake: int


class ErrorRatesDocument(BaseModel):
    """Verdicts on labelled videos of people that the calibration wasn't fitted on."""

    footage: str
    genuine: VerdictCounts
    fakes: VerdictCounts


class ScanDocument(BaseModel):
    """A result, the same document that ``torchfakes scan --json`` prints. New fields may be added."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: int = Field(alias="schema", description="Goes up when a field changes its meaning.")
    path: str = Field(description="The file name that came with the clip.")
    status: Literal["ok"]
    verdict: Verdict
    p_fake: float | None = Field(description="Of the person who decided; null where nothing was scored.")
    reason: Reason | None = Field(description="Why the verdict is inconclusive.")
    error: None
    warnings: list[str]
    video: VideoDocument
    frames_sampled: int
    faces_scored: int
    faces_blurry: int
    peak_time_s: float | None
    elapsed_s: float
    model: str | None
    sha256: str = Field(description="Checksum of the clip.")
    scanned_at: datetime = Field(description="When the result was known, in UTC.")
    headline: str = Field(description="The verdict in plain sentences, with what it doesn't prove.")
    next_step: str = Field(description="What to do next, in a sentence.")
    real_below: float = Field(description="A p_fake below this is called real.")
    fake_above: float = Field(description="From this p_fake on a video is called fake.")
    people_flagged: int = Field(description="Number of people whose score reaches fake_above.")
    error_rates: ErrorRatesDocument | None = Field(description="Of the detector in its test, with these thresholds.")
    source: None = Field(description="Web page of a downloaded video; an uploaded clip has none.")
    tracks: list[TrackDocument]
    timeline: list[TimelineRow]


class JobDocument(BaseModel):
    """Progress and result of a scan."""

    id: str
    status: Literal["queued", "running", "done", "failed"]
    ahead: int | None = Field(description="Clips that are scanned before this one; null unless it is queued.")
    frames_done: int
    frames_wanted: int | None = Field(description="Null where not known.")
    created_at: datetime = Field(description="When the clip began to arrive, in UTC.")
    finished_at: datetime | None = Field(description="When the result was known, in UTC; null before.")
    elapsed_s: float = Field(description="Seconds between these times, or until now.")
    result: ScanDocument | None = Field(description="With status done.")
    error: Problem | None = Field(description="With status failed.")


class StateDocument(BaseModel):
    """State of the server."""

    status: Literal["ok", "ready"]


#: OpenAPI description of the answer to a scan that goes on.
ACCEPTED: dict[str, Any] = {
    "model": JobDocument,
    "description": "The scan goes on: ask for it later.",
    "headers": {**_RETRY, "Location": {"description": "Where to ask for the result.", "schema": {"type": "string"}}},
}


def problem(error: HTTPException) -> dict[str, Any]:
    """Return the content of the problem document of an error."""
    status = HTTPStatus(error.status_code)
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": error.detail}


def problem_response(error: HTTPException) -> JSONResponse:
    """Create the response with the problem document of an error."""
    return JSONResponse(problem(error), error.status_code, error.headers, media_type=_PROBLEM_JSON)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI error responses of an operation."""
    schema = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {_PROBLEM_JSON: schema},
            "headers": _HEADERS.get(status, {}),
        }
        for status in statuses
    }


def failure_of(error: TorchfakesError, name: str) -> HTTPException:
    """Create the HTTP error for a failed scan, with the client's name of the clip in place of the temporary path."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    return HTTPException(status, str(TorchfakesError(error.cause, path=name, advice=error.advice)))
