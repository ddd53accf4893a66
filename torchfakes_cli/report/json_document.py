"""JSON output: an indented document for one clip, one line per file for many; both have the same fields.

Missing values are null. The text is ASCII, and a JSON reader restores each path exactly as it was given, including
bytes that aren't UTF-8.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from torchfakes_cli.records import Face, FaceScore, Status, SuspiciousSpan, Track, VideoInfo, VideoResult
from torchfakes_cli.report.rows import (
    PIXEL_DIGITS,
    RATE_DIGITS,
    SCORE_DIGITS,
    SHARPNESS_DIGITS,
    TIME_DIGITS,
    rounded,
)

#: Version of the schema, which increases when a field is removed or changes its meaning, but not for new fields.
SCHEMA = 1


def result_to_json(result: VideoResult, *, one_line: bool = False) -> str:
    """Return a result with its timeline as JSON, without a final line break.

    Args:
        result: result of one file.
        one_line: write one line, for JSON Lines; otherwise indent.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if one_line else {"indent": 2}
    return json.dumps(_document(result), allow_nan=False, ensure_ascii=True, **layout)


def _document(result: VideoResult) -> dict[str, Any]:
    known = result.status is Status.OK  # nothing is counted in a file that failed
    return {
        "schema": SCHEMA,
        "path": result.path,
        "status": result.status.value,
        "verdict": result.verdict.value if result.verdict else None,
        "p_fake": rounded(result.p_fake, SCORE_DIGITS),
        "reason": result.reason.value if result.reason else None,
        "error": result.error or None,
        "warnings": list(result.warnings),
        "video": _video(result.info) if result.info else None,
        "frames_sampled": result.frames_sampled if known else None,
        "faces_scored": result.faces_scored if known else None,
        "faces_blurry": result.faces_blurry if known else None,
        "peak_time_s": rounded(result.peak_time_s, TIME_DIGITS),
        "elapsed_s": rounded(result.elapsed_s, TIME_DIGITS),
        "model": result.model or None,
        "sha256": result.sha256 or None,
        "scanned_at": result.scanned_at or None,
        "real_below": rounded(result.real_below, SCORE_DIGITS),
        "fake_above": rounded(result.fake_above, SCORE_DIGITS),
        "people_flagged": result.people_flagged if known else None,
        "source": asdict(result.source) if result.source else None,
        "tracks": [_track(track) for track in result.tracks],
        "timeline": [_timeline_row(row) for row in result.timeline],
    }


def _video(info: VideoInfo) -> dict[str, Any]:
    return {
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "fps": None if info.fps is None else rounded(float(info.fps), RATE_DIGITS),
        "duration_s": rounded(info.duration_s, TIME_DIGITS),
        "frame_count": info.frame_count,
        "rotation": info.rotation,
        "picture": info.picture,
    }


def _track(track: Track) -> dict[str, Any]:
    return {
        "track": track.number,
        "start_s": rounded(track.start_s, TIME_DIGITS),
        "end_s": rounded(track.end_s, TIME_DIGITS),
        "faces": track.faces,
        "faces_scored": track.faces_scored,
        "logit": rounded(track.logit, SCORE_DIGITS),
        "p_fake": rounded(track.p_fake, SCORE_DIGITS),
        "peak_time_s": rounded(track.peak_time_s, TIME_DIGITS),
        "lasting": track.lasting,
        "doubt": track.doubt.value if track.doubt else None,
        "suspicious_span": _span(track.suspicious_span) if track.suspicious_span else None,
    }


def _span(span: SuspiciousSpan) -> dict[str, Any]:
    return {
        "start_s": rounded(span.start_s, TIME_DIGITS),
        "end_s": rounded(span.end_s, TIME_DIGITS),
        "p_fake": rounded(span.p_fake, SCORE_DIGITS),
    }


def _timeline_row(row: FaceScore) -> dict[str, Any]:
    return {
        "time_s": rounded(row.time_s, TIME_DIGITS),
        "frame": row.frame,
        "track": row.track,
        "face": _face(row.face) if row.face else None,
        "sharpness": rounded(row.sharpness, SHARPNESS_DIGITS),
        "logit": rounded(row.logit, SCORE_DIGITS),
        "p_fake": rounded(row.p_fake, SCORE_DIGITS),
        "note": row.note or None,
    }


def _face(face: Face) -> dict[str, Any]:
    return {
        "box": [rounded(corner, PIXEL_DIGITS) for corner in face.box],
        "confidence": rounded(face.confidence, SCORE_DIGITS),
        "landmarks": [[rounded(x, PIXEL_DIGITS), rounded(y, PIXEL_DIGITS)] for x, y in face.landmarks],
    }
