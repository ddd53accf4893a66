"""Measured figures of a detector, read from its header, for reports, ``models show`` and documents.

``torchfakes evaluate --calibrate`` writes them. This module doesn't import torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchfakes_cli.records import ErrorRates

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header

#: Key of ``Header.metrics`` for the record of the calibration and its cross-validated results.
CALIBRATION = "calibration"
#: Key of ``Header.metrics`` for the verdicts on people held out of the training, by label and verdict.
TEST_VERDICTS = "test_verdicts"
VERDICTS = ("real", "inconclusive", "fake")


def error_rates(header: Header) -> ErrorRates | None:
    """Return the error rates in a header; None if they are missing or can't be read."""
    try:
        record = header.metrics.get(CALIBRATION)
        if record and record.get("cross_validated"):
            return _rates(record["cross_validated"]["verdicts"], str(record.get("footage", "")))
        return _rates(header.metrics[TEST_VERDICTS], "")
    except (AttributeError, KeyError, TypeError, ValueError):  # a checkpoint may hold anything
        return None


def _rates(counts: Mapping[str, Mapping[str, Any]], footage: str) -> ErrorRates:
    genuine, fakes = ({name: int(counts[label][name]) for name in VERDICTS} for label in ("real", "fake"))
    # The record counts the videos that the calibration was fitted on; verdicts also count those without a score.
    videos = sum(genuine.values()) + sum(fakes.values())
    return ErrorRates(genuine, fakes, re.sub(r"^\d+ ", f"{videos} ", footage))


def figures_markdown(header: Header, *, methods: bool = True) -> str:
    """Return the figures as Markdown, for the model card and the README; empty if there are none.

    Args:
        header: header of a calibrated detector.
        methods: include a table of the AUC of each kind of fake.
    """
    rates, record = error_rates(header), header.metrics.get(CALIBRATION)
    if rates is None or not isinstance(record, Mapping):
        return ""
    lines = [
        f"Measured on {rates.footage}; calibration and thresholds fitted without the people that they are measured on:",
        "",
        "| | called real | inconclusive | called fake |",
        "|---|---:|---:|---:|",
        _counts("genuine videos", rates.genuine),
        _counts("fakes", rates.fakes),
        "",
        f"Calibration error (ECE): {record['cross_validated']['ece']:.2f}.",
    ]
    if not methods:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "| fakes | videos | against | video AUC | 95 % interval |",
        "|---|---:|---|---:|---|",
    ]
    for name, row in record.get("auc", {}).items():
        if row["auc"] is not None:
            interval = "–".join(f"{bound:.2f}" for bound in row["interval"]) if row["interval"] else "too few people"
            lines.append(f"| {name} | {row['videos']} | {row['against']} | {row['auc']:.2f} | {interval} |")
    return "\n".join(lines) + "\n"


def _counts(name: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    cells = " | ".join(f"{counts[verdict]} ({100 * counts[verdict] / total:.0f} %)" for verdict in VERDICTS)
    return f"| {total} {name} | {cells} |"
