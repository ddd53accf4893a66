"""What a scan leaves behind: a timeline of one clip, a table of many, a JSON document, evidence. One writer a file."""

from __future__ import annotations

from torchfakes_cli.report.batch import (
    BATCH_COLUMNS,
    BatchRow,
    BatchTable,
    Stamp,
    check_batch_target,
    check_is_csv,
)
from torchfakes_cli.report.clip_file import check_clip_target
from torchfakes_cli.report.explanation import REGION_COLUMNS, check_explanation_target, write_explanation
from torchfakes_cli.report.json_document import SCHEMA, result_to_json
from torchfakes_cli.report.timeline_csv import check_timeline_targets, write_timeline
from torchfakes_cli.report.timeline_row import TIMELINE_COLUMNS

__all__ = [
    "BATCH_COLUMNS",
    "REGION_COLUMNS",
    "SCHEMA",
    "TIMELINE_COLUMNS",
    "BatchRow",
    "BatchTable",
    "Stamp",
    "check_batch_target",
    "check_clip_target",
    "check_explanation_target",
    "check_is_csv",
    "check_timeline_targets",
    "result_to_json",
    "write_explanation",
    "write_timeline",
]
