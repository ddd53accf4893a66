"""JSON output: an indented document for one clip, one line per file for many; both have the same fields.

Missing values are null. The text is ASCII, and a JSON reader restores each path exactly as it was given, including
bytes that aren't UTF-8.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from torchfakes_cli.records import Status, Track, VideoResult
from torchfakes_cli.report.columns import COLUMN_DIGITS, batch_row, rounded
from torchfakes_cli.report.summary import summarize

#: Version of the schema, which increases when a field is removed or changes its meaning, but not for new fields.
SCHEMA = 1

_VIDEO = ("container", "codec", "width", "height", "fps", "duration_s", "frame_count", "rotation", "picture")
_ROW = ("time_s", "frame", "track", "face", "sharpness", "logit", "p_fake", "note")
_FACE = ("box", "confidence", "landmarks")


def result_to_json(result: VideoResult, *, one_line: bool = False) -> str:
    """Return a result with its timeline as JSON, without a final line break.

    Args:
        result: result of one file.
        one_line: write one line, for JSON Lines; otherwise indent.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if one_line else {"indent": 2}
    return json.dumps(_document(result), allow_nan=False, ensure_ascii=True, **layout)


def _document(result: VideoResult) -> dict[str, Any]:
    row = batch_row(result)._asdict()
    summary = summarize(result) if result.status is Status.OK and result.fake_above is not None else None
    info, rates = result.info, result.error_rates

    def columns(*names: str) -> dict[str, Any]:
        return {name: row[name] for name in names}

    document = {
        "schema": SCHEMA,
        **columns("path", "status", "verdict", "p_fake", "reason", "error"),
        "warnings": result.warnings,
        "video": info and {name: getattr(info, name) for name in _VIDEO},
        **columns("frames_sampled", "faces_scored", "faces_blurry", "peak_time_s", "elapsed_s", "model", "sha256"),
        **columns("scanned_at"),
        "headline": f"{summary.headline} {summary.proof}" if summary else None,
        "next_step": summary.next_step if summary else None,
        **columns("real_below", "fake_above", "people_flagged"),
        "error_rates": rates and {"footage": rates.footage, "genuine": rates.genuine, "fakes": rates.fakes},
        "source": result.source and asdict(result.source),
        "tracks": [_track(track, result) for track in result.tracks],
        "timeline": [
            {name: getattr(row, name) for name in _ROW}
            | {"face": row.face and {name: getattr(row.face, name) for name in _FACE}, "note": row.note or None}
            for row in result.timeline
        ],
    }
    rounded_document: dict[str, Any] = _rounded(document)
    return rounded_document


def _track(track: Track, result: VideoResult) -> dict[str, Any]:
    values = asdict(track)
    return {"track": values.pop("number"), **values, "flagged": track in result.flagged}


def _rounded(value: Any, name: str = "") -> Any:
    """Return a value for JSON, rounded by the name of its field."""
    if isinstance(value, dict):
        return {key: _rounded(each, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each, name) for each in value]
    return rounded(float(value), COLUMN_DIGITS[name]) if isinstance(value, float | Fraction) else value
