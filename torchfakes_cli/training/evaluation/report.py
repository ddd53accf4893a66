"""What an evaluation leaves in its folder.

Each file is whole or not there. report.json is written first, as it tells the files beside it from those of others, and
report.md last.

::

    report.md      to read
    report.json    the same and more for programs; its schema is torchfakes_cli.training.evaluation.findings
    scores.csv     a row a video, detector and set of crops
    frames.csv     a row a crop, likewise
    *.png          plots
    crops/         faces cut out of corpora; another run goes on from there
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from torchfakes_cli.detector.checkpoint import write_atomically
from torchfakes_cli.errors import OutputError
from torchfakes_cli.report.csv import escape_undecodable, text_cell
from torchfakes_cli.training.crops.extract import slug
from torchfakes_cli.training.evaluation.findings import FORMAT, Evaluation
from torchfakes_cli.training.evaluation.markdown import markdown
from torchfakes_cli.training.evaluation.plots import PLOTS, draw_plots

REPORT, DOCUMENT, VIDEOS, FRAMES, CROPS = "report.md", "report.json", "scores.csv", "frames.csv", "crops"
#: Decimals of figures in the document: more than any of them is sure of.
_DIGITS = 6
_VIDEO_COLUMNS = (
    *("model", "source", "video", "label", "method", "group", "original", "split", "compression"),
    *("faces", "faces_scored", "face_size", "sharpness", "logit", "p_fake", "verdict", "reason"),
)
_FRAME_COLUMNS = (
    *("model", "source", "crop", "video", "label", "method", "group", "split", "compression"),
    *("time_s", "frame", "face", "face_size", "sharpness", "logit", "p_fake", "verdict"),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """What a result was computed from.

    Attributes:
        videos: as ``judge_videos`` gives them.
        frames: as ``judge_crops`` gives them.
    """

    videos: pd.DataFrame
    frames: pd.DataFrame


def check_out(out: Path, *, force: bool) -> None:
    """Make sure that no file that isn't an evaluation's stands where one would be written.

    Raises:
        OutputError: one does, and ``force`` isn't set.
    """
    names = (REPORT, DOCUMENT, VIDEOS, FRAMES, *PLOTS)
    taken = [name for name in names if (out / name).exists()]
    if taken and not force and _earlier(out) is None:
        cause = f"holds other files of these names: {', '.join(taken)}"
        raise OutputError(cause, path=out, advice="Choose another --out, or replace them with --force.")


def make_out(out: Path) -> None:
    """Make the folder, before the work and not after it.

    Raises:
        OutputError: it can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = f"can't be made ({error.strerror or error})"
        raise OutputError(cause, path=out, advice="Choose another --out.") from error


def write_report(out: Path, evaluation: Evaluation, tables: Sequence[Tables]) -> Evaluation:
    """Draw the plots and write everything.

    Args:
        out: an existing folder.
        evaluation: without plots.
        tables: of each of its results.

    Returns:
        The evaluation with the names of its plots, as it was written.

    Raises:
        OutputError: a file can't be written.
    """
    earlier = _earlier(out) or {}
    results = []
    pictures: dict[str, bytes] = {}
    for result, table in zip(evaluation.results, tables, strict=True):
        stem = f"{slug(f'{result.model} on {result.source}')}-" if len(tables) > 1 else ""
        model = next(model for model in evaluation.models if model.name == result.model)
        plots = draw_plots(result, model, table.videos, table.frames)
        pictures |= {f"{stem}{name}": picture for name, picture in plots.items()}
        results.append(replace(result, plots=tuple(f"{stem}{name}" for name in plots)))
    evaluation = replace(evaluation, results=tuple(results))
    write_atomically(out / DOCUMENT, document(evaluation).encode())
    _drop_plots(out, earlier, set(pictures))
    for name, picture in pictures.items():
        write_atomically(out / name, picture)
    write_atomically(out / VIDEOS, _csv(evaluation, [table.videos for table in tables], _VIDEO_COLUMNS))
    write_atomically(out / FRAMES, _csv(evaluation, [table.frames for table in tables], _FRAME_COLUMNS))
    write_atomically(out / REPORT, escape_undecodable(markdown(evaluation)).encode())
    return evaluation


def document(evaluation: Evaluation) -> str:
    """The evaluation as JSON: the records of ``findings`` field by field, without NaN."""
    return json.dumps(_plain(asdict(evaluation)), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _csv(evaluation: Evaluation, tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> bytes:
    """Rows of all results, with the detector and the set of crops in front."""
    parts = [
        # A video's own column ``source`` names its original.
        table.rename(columns={"source": "original"}).assign(model=result.model, source=result.source)
        for result, table in zip(evaluation.results, tables, strict=True)
    ]
    whole = pd.concat(parts, ignore_index=True)[list(columns)]
    for name in whole.columns:
        if not pd.api.types.is_numeric_dtype(whole[name]):
            whole[name] = [text_cell(str(value)) for value in whole[name]]
    return whole.to_csv(index=False, lineterminator="\n", float_format="%.7g").encode()


def _earlier(out: Path) -> dict[str, Any] | None:
    """The document of an earlier evaluation; None where there is none of ours."""
    try:
        found = json.loads((out / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _drop_plots(out: Path, earlier: Mapping[str, Any], kept: set[str]) -> None:
    """Remove an earlier evaluation's plots, which would show other results than the report."""
    results = earlier.get("results")
    for result in results if isinstance(results, list) else []:
        for name in result.get("plots", []) if isinstance(result, dict) else []:
            if isinstance(name, str) and name not in kept and name.endswith(".png") and Path(name).name == name:
                (out / name).unlink(missing_ok=True)
