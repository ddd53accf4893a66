"""Tables of an export: files, and their differences from torch."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from torchfakes_cli.cli.console.models_view import rows_table

if TYPE_CHECKING:
    from rich.table import Table

    from torchfakes_cli.export.folder import Exported
    from torchfakes_cli.export.parity import Boxes, Scores


def files_table(made: Exported) -> Table:
    """Make a table with a row a file: size, differences on random input, and milliseconds beside float32 torch."""
    scores = made.scores[0]
    differences = {made.files[0].path.stem: (scores.largest, scores.mean)}
    differences |= {name: (found.largest, found.mean) for name, found in made.outputs.items()}
    columns = ("file", "", "MB", "differs by", "mean", "ms", "torch fp32", "for")
    rows = []
    for file in made.files:
        largest, mean = differences[file.path.stem]
        times = (f"{file.milliseconds:.2f}", f"{file.torch_milliseconds:.2f}", file.timed)
        rows.append((file.path.name, file.precision, f"{file.megabytes:.2f}", f"{largest:.2g}", f"{mean:.2g}", *times))
    return rows_table(columns, rows)


def scores_words(scores: Scores) -> str:
    """Describe the differences of the detector's scores."""
    words = [
        f"logits differ by {scores.largest:.2g} at most and {scores.mean:.2g} on average",
        f"{scores.verdicts:.1%} of verdicts are the same",
    ]
    if not isnan(scores.rank):
        words.append(f"rank correlation {scores.rank:.4f}")
    if not isnan(scores.auc):
        words.append(f"AUC {scores.auc:.4f}, torch's {scores.auc_torch:.4f}")
    return f"{scores.count} {scores.on.removeprefix('the ')}: {'; '.join(words)}"


def boxes_words(boxes: Boxes) -> str:
    """Describe the differences of the detected faces."""
    found = f"torch finds {boxes.torch} faces and the files {boxes.files}, {boxes.both} of them the same"
    overlap = "" if isnan(boxes.overlap) else f"; these boxes overlap by {boxes.overlap:.3f} on average"
    return f"{boxes.pictures} pictures: {found}{overlap}"


def threads_words(threads: int) -> str:
    """Format a number of threads."""
    return "1 thread" if threads == 1 else f"{threads} threads"
