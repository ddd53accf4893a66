"""The shapes of the answers, for the OpenAPI document. What is sent is written by ``report`` and read from ``Job``."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from torchfakes_cli.serve.jobs import Job, State
from torchfakes_cli.serve.problems import Problem


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
    p_fake: float | None = Field(description="Calibrated probability that the face is synthetic; never made up.")
    note: str | None = Field(description="Why there is no score: no_face, blurry, damaged or long_shot.")


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
    doubt: str | None = Field(description="Why the score says too little: tiny_faces.")


class VideoDocument(BaseModel):
    """What is known of the file."""

    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    frame_count: int | None
    rotation: int
    picture: bool = Field(description="It is a still picture: one frame at time 0.")


class ScanDocument(BaseModel):
    """A result, the same document that ``torchfakes scan --json`` prints. New fields may be added."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: int = Field(alias="schema", description="Goes up when a field changes its meaning.")
    path: str = Field(description="The file name that came with the clip.")
    status: Literal["ok"]
    verdict: Literal["real", "fake", "inconclusive"]
    p_fake: float | None = Field(description="Of the person who decided; null where nothing was scored.")
    reason: str | None = Field(description="Why the verdict is inconclusive.")
    error: None
    warnings: list[str]
    video: VideoDocument
    frames_sampled: int
    faces_scored: int
    faces_blurry: int
    peak_time_s: float | None
    elapsed_s: float
    model: str | None
    tracks: list[TrackDocument]
    timeline: list[TimelineRow]


class JobDocument(BaseModel):
    """How far a scan is, and its result."""

    id: str
    status: Literal["queued", "running", "done", "failed"]
    ahead: int | None = Field(description="Clips that are scanned before this one; null unless it is queued.")
    frames_done: int
    frames_wanted: int | None = Field(description="Null where not known.")
    elapsed_s: float = Field(description="Since the clip began to come, until its result was known.")
    result: ScanDocument | None = Field(description="With status done.")
    error: Problem | None = Field(description="With status failed.")


class StateDocument(BaseModel):
    """How the server is."""

    status: Literal["ok", "ready"]


def job_document(job: Job, ahead: int | None) -> dict[str, Any]:
    """A ``JobDocument`` to send.

    Args:
        job: that has been received.
        ahead: see there.
    """
    return {
        "id": job.id,
        "status": job.state.value,
        "ahead": ahead,
        "frames_done": job.frames_done,
        "frames_wanted": job.frames_wanted,
        "elapsed_s": round(job.elapsed_s, 3),
        "result": json.loads(job.document) if job.state is State.DONE and job.document else None,
        "error": job.problem.model_dump() if job.problem else None,
    }
