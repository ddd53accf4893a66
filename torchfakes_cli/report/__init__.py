"""Output files: timelines, tables of many results, JSON documents, reports, explanations and annotated frames."""

from __future__ import annotations

from torchfakes_cli.report.columns import BATCH_COLUMNS, TIMELINE_COLUMNS, BatchRow
from torchfakes_cli.report.csv import check_timeline_targets, write_timeline
from torchfakes_cli.report.heat_maps import REGION_COLUMNS, check_explanation_target, write_explanation
from torchfakes_cli.report.journal import BatchTable, Stamp, check_batch_target
from torchfakes_cli.report.json_document import SCHEMA, result_to_json

__all__ = [
    "BATCH_COLUMNS",
    "REGION_COLUMNS",
    "SCHEMA",
    "TIMELINE_COLUMNS",
    "BatchRow",
    "BatchTable",
    "Stamp",
    "check_batch_target",
    "check_explanation_target",
    "check_timeline_targets",
    "result_to_json",
    "write_explanation",
    "write_timeline",
]
