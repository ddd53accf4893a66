"""What a scan leaves behind: a CSV timeline of one clip, a CSV of many, a JSON document. One writer a file."""

from __future__ import annotations

from torchfakes_cli.report.batch_csv import BATCH_COLUMNS, BatchCsv, check_batch_target
from torchfakes_cli.report.batch_state import Stamp
from torchfakes_cli.report.clip_file import check_clip_target
from torchfakes_cli.report.json_document import SCHEMA, result_to_json
from torchfakes_cli.report.timeline_csv import TIMELINE_COLUMNS, check_timeline_targets, write_timeline

__all__ = [
    "BATCH_COLUMNS",
    "SCHEMA",
    "TIMELINE_COLUMNS",
    "BatchCsv",
    "Stamp",
    "check_batch_target",
    "check_clip_target",
    "check_timeline_targets",
    "result_to_json",
    "write_timeline",
]
