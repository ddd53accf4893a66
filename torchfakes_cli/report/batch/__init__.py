"""The results of many files as one table that survives any crash: a companion that remembers, one writer a format."""

from __future__ import annotations

from torchfakes_cli.report.batch.formats import check_is_csv
from torchfakes_cli.report.batch.row import BATCH_COLUMNS, BatchRow
from torchfakes_cli.report.batch.state import Stamp
from torchfakes_cli.report.batch.table import BatchTable, check_batch_target

__all__ = ["BATCH_COLUMNS", "BatchRow", "BatchTable", "Stamp", "check_batch_target", "check_is_csv"]
