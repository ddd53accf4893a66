"""The measured figures of a detector, read from its header: one source for reports, ``models show`` and documents.

``torchfakes evaluate --calibrate`` writes them. Importing this doesn't import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header

#: Key of ``Header.metrics``: how the calibration was fitted, and what it is worth on other people.
CALIBRATION = "calibration"
#: Key of ``Header.metrics``: verdicts on people kept out of a training, by label and verdict.
TEST_VERDICTS = "test_verdicts"
VERDICTS = ("real", "inconclusive", "fake")


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Verdicts on videos whose label is known and whose people no calibration was fitted on.

    Attributes:
        genuine: number of genuine videos by verdict (``real``, ``inconclusive``, ``fake``).
        fakes: number of fake videos by verdict.
        footage: the videos, in words; empty where the header does not say.
    """

    genuine: Mapping[str, int]
    fakes: Mapping[str, int]
    footage: str

    def sentence(self) -> str:
        """False alarms and misses in one sentence."""
        genuine, fakes = sum(self.genuine.values()), sum(self.fakes.values())
        where = f"On {self.footage}, this" if self.footage else "In its test this"
        return (
            f"{where} detector called {self.genuine['fake']} of {genuine} genuine videos fake; of {fakes} fakes it "
            f"called {self.fakes['fake']} fake and {self.fakes['real']} real."
        )


def error_rates(header: Header) -> ErrorRates | None:
    """The error rates that a header holds; None where nobody measured them or they can't be read."""
    try:
        record = header.metrics.get(CALIBRATION)
        if record and record.get("cross_validated"):
            return _rates(record["cross_validated"]["verdicts"], str(record.get("footage", "")))
        return _rates(header.metrics[TEST_VERDICTS], "")
    except (AttributeError, KeyError, TypeError, ValueError):  # a checkpoint may hold anything
        return None


def _rates(counts: Mapping[str, Mapping[str, Any]], footage: str) -> ErrorRates:
    genuine, fakes = ({name: int(counts[label][name]) for name in VERDICTS} for label in ("real", "fake"))
    return ErrorRates(genuine, fakes, footage)


def figures_markdown(header: Header, *, methods: bool = True) -> str:
    """The figures as Markdown, for the model card and the README; empty where there are none.

    Args:
        header: of a calibrated detector.
        methods: with a table of the AUC of each kind of fake.
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
