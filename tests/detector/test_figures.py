"""The figures of the detector that ships stand in its header, and documents repeat them word by word."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from torchfakes_cli.detector.calibration import CALIBRATION, VERDICTS, error_rates
from torchfakes_cli.detector.checkpoint import Header, load_header
from torchfakes_cli.detector.registry import model_card, shipped_checkpoint
from torchfakes_cli.report.summary import error_rates_sentence

ROOT = Path(__file__).parents[2]


def _figures_in(text: str) -> str:
    found = re.search(r"<!-- figures:begin -->\n(.*)<!-- figures:end -->", text, re.DOTALL)
    assert found is not None
    return found[1].strip()


def figures_markdown(header: Header, *, methods: bool = True) -> str:
    """The figures as Markdown, ``methods`` with a table of the AUC of each kind of fake."""
    rates, record = error_rates(header), header.metrics[CALIBRATION]
    assert rates is not None
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
    if methods:
        lines += ["", "| fakes | videos | against | video AUC | 95 % interval |", "|---|---:|---|---:|---|"]
    for name, row in record["auc"].items() if methods else ():
        if row["auc"] is not None:
            interval = "–".join(f"{bound:.2f}" for bound in row["interval"]) if row["interval"] else "too few people"
            lines.append(f"| {name} | {row['videos']} | {row['against']} | {row['auc']:.2f} | {interval} |")
    return "\n".join(lines)


def _counts(name: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    cells = " | ".join(f"{counts[verdict]} ({100 * counts[verdict] / total:.0f} %)" for verdict in VERDICTS)
    return f"| {total} {name} | {cells} |"


@pytest.mark.parametrize("document", ["the model card", "README.md"])
def test_documents_show_the_figures_of_the_header(document: str) -> None:
    header = load_header(shipped_checkpoint())
    text = model_card(shipped_checkpoint()) if document == "the model card" else (ROOT / document).read_text("utf-8")
    assert text is not None
    assert _figures_in(text) == figures_markdown(header, methods=document != "README.md")


def test_error_rates_come_from_people_that_the_calibration_was_not_fitted_on() -> None:
    verdicts = {
        "real": {"real": 5, "inconclusive": 4, "fake": 1},
        "fake": {"real": 2, "inconclusive": 3, "fake": 6},
    }
    record = {"cross_validated": {"verdicts": verdicts, "ece": 0.1}, "footage": "21 videos of 9 people"}
    rates = error_rates(Header(name="x", metrics={"calibration": record}))
    assert rates is not None
    assert error_rates_sentence(rates) == (
        "In a cross-validated test on 21 videos of 9 people, this detector called 1 of 10 genuine videos fake (false "
        "alarms) and 2 of 11 fakes real (misses); it found 6 of the fakes, and left 7 videos undecided."
    )


@pytest.mark.parametrize(
    "metrics",
    [{}, {"calibration": 3}, {"calibration": {"cross_validated": None}}, {"test_verdicts": {"real": {"real": "x"}}}],
)
def test_a_header_without_figures_gives_none(metrics: dict[str, object]) -> None:
    assert error_rates(Header(name="x", metrics=metrics)) is None
